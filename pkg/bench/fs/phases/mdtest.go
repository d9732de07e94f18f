package phases

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mdFile names a small file for people; it is only built when something went wrong.
func (e *Engine) mdFile(hard bool, rank int, item int64) string {
	if hard {
		return fmt.Sprintf("%s/%s/%s/%s%d.%d", dirMDHard, dirTest, dirHardTree, fileMD, rank, item)
	}
	return fmt.Sprintf("%s/%s/%s/%s%d.%d", dirMDEasy, dirTest, easyTree(e.shift(rank, 1)), fileMD, rank, item)
}

func (r *rank) mdEasyWrite() error { return r.create(false, r.e.limits.EasyFiles) }
func (r *rank) mdHardWrite() error { return r.create(true, r.e.limits.HardFiles) }

// dirOf is the directory that holds the files of a rank. With mdtest -u -N 1 a
// rank makes its files in the directory of the next one.
func (e *Engine) dirOf(hard bool, rank int) int {
	if hard {
		return e.mdHard
	}
	return e.mdEasy[e.shift(rank, 1)]
}

// shift is the rank n places further, around the end.
func (e *Engine) shift(rank, n int) int { return (rank + n) % e.plan.Ranks }

// create makes files, empty or of hardFileSize bytes, and syncs the file
// system at the end, inside the timed region, as mdtest -Y does.
func (r *rank) create(hard bool, limit int64) error {
	dir, prefix := r.e.dirOf(hard, r.id), mdName(r.id)
	err := r.untilWall(limit, func(i int64) (int64, error) {
		name := setItem(prefix, i)
		start := r.now()
		fd, err := openat(dir, name, flagsCreate, 0o600)
		if err != nil {
			return 0, fmt.Errorf("create %s: %w", r.e.mdFile(hard, r.id, i), err)
		}
		var n int64
		if hard {
			n = hardFileSize
			err = writeAt(fd, r.tail, 0)
		}
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
		if err != nil {
			return 0, fmt.Errorf("write %s: %w", r.e.mdFile(hard, r.id, i), err)
		}
		return r.ok(start, n), nil
	})
	if err != nil {
		return err
	}
	if err := unix.Syncfs(r.e.root); err != nil {
		return fmt.Errorf("sync the file system: %w", err)
	}
	return nil
}

func (r *rank) mdEasyStat() error { return r.statAll(false, r.e.easyItems) }
func (r *rank) mdHardStat() error { return r.statAll(true, r.e.hardItems) }

// statAll reads the attributes of the next rank's files, as mdtest -N 1 does.
func (r *rank) statAll(hard bool, items int64) error {
	who := r.neighbour(1)
	dir, prefix := r.e.dirOf(hard, who), mdName(who)
	var size int64
	if hard {
		size = hardFileSize
	}
	return r.each(0, items, func(i int64) (int64, error) {
		name := setItem(prefix, i)
		start := r.now()
		if err := statat(dir, name, &r.stat); err != nil {
			return r.miss("stat "+r.e.mdFile(hard, who, i), err), nil
		}
		if r.stat.Size != size || r.stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return r.miss("stat "+r.e.mdFile(hard, who, i), fmt.Errorf("mode %o and %d bytes, made as a plain file of %d", r.stat.Mode, r.stat.Size, size)), nil
		}
		return r.ok(start, 0), nil
	})
}

// mdHardRead opens, reads and closes the files of the rank two places further,
// and verifies them.
func (r *rank) mdHardRead() error {
	who := r.neighbour(2)
	dir, prefix := r.e.mdHard, mdName(who)
	got := r.got[:hardFileSize]
	return r.each(0, r.e.hardItems, func(i int64) (int64, error) {
		name := setItem(prefix, i)
		spoil(got)
		start := r.now()
		fd, err := openat(dir, name, flagsRead, 0)
		if err != nil {
			return r.miss("open "+r.e.mdFile(true, who, i), err), nil
		}
		err = readAt(fd, got, 0)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return r.miss("read "+r.e.mdFile(true, who, i), err), nil
		}
		end := r.ok(start, hardFileSize)
		if differs(got, r.other) >= 0 {
			r.check(got, r.other, r.e.mdFile(true, who, i), 0)
		} else {
			r.row.Verified += hardFileSize
		}
		return end, nil
	})
}

func (r *rank) mdEasyDelete() error { return r.deleteAll(false, r.e.easyItems) }
func (r *rank) mdHardDelete() error { return r.deleteAll(true, r.e.hardItems) }

// deleteAll removes the files of the rank three places further. A file that is
// gone already counts as failed, never as removed.
func (r *rank) deleteAll(hard bool, items int64) error {
	who := r.neighbour(3)
	dir, prefix := r.e.dirOf(hard, who), mdName(who)
	return r.each(0, items, func(i int64) (int64, error) {
		name := setItem(prefix, i)
		start := r.now()
		if err := unlinkat(dir, name); err != nil {
			return r.miss("delete "+r.e.mdFile(hard, who, i), err), nil
		}
		return r.ok(start, 0), nil
	})
}
