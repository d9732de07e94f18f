package phases

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	flagsCreate = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY
	flagsShared = unix.O_CREAT | unix.O_RDWR
	flagsRead   = unix.O_RDONLY
)

// direct adds O_DIRECT where the plan asks for it; only transfers that are
// whole blocks can have it.
func (e *Engine) direct() int {
	if e.plan.Direct {
		return unix.O_DIRECT
	}
	return 0
}

// openData opens a file of an IOR phase. The name in the error is relative to
// the work directory.
func (r *rank) openData(dir int, dirName, name string, flags int) (int, error) {
	fd, err := openat(dir, append([]byte(name), 0), flags, 0o600)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EINVAL) && flags&unix.O_DIRECT != 0:
		return -1, fmt.Errorf("open %s/%s: the file system refuses O_DIRECT; run without direct: %w", dirName, name, err)
	default:
		return -1, fmt.Errorf("open %s/%s: %w", dirName, name, err)
	}
}

// finish closes a data file inside the timed region, and says the first error.
func finish(fd int, file string, write bool, err error) error {
	if write && err == nil {
		if err = fsync(fd); err != nil {
			err = fmt.Errorf("fsync %s: %w", file, err)
		}
	}
	if cerr := unix.Close(fd); cerr != nil && err == nil {
		err = fmt.Errorf("close %s: %w", file, cerr)
	}
	return err
}

func (r *rank) easyWrite() error {
	name := easyFile(r.id)
	fd, err := r.openData(r.e.easyDir, dirEasy, name, flagsCreate|r.e.direct())
	if err != nil {
		return r.absent(err)
	}
	err = r.untilWall(r.e.limits.EasyTransfers, func(i int64) (int64, error) {
		start := r.now()
		if err := writeAt(fd, r.want, i*easyTransfer); err != nil {
			return 0, fmt.Errorf("write %s/%s at offset %d: %w", dirEasy, name, i*easyTransfer, err)
		}
		return r.ok(start, easyTransfer), nil
	})
	return finish(fd, dirEasy+"/"+name, true, err)
}

func (r *rank) hardWrite() error {
	fd, err := r.openData(r.e.hardDir, dirHard, fileHard, flagsShared)
	if err != nil {
		return r.absent(err)
	}
	n := int64(r.e.plan.Ranks)
	err = r.untilWall(r.e.limits.HardTransfers, func(i int64) (int64, error) {
		off := (i*n + int64(r.id)) * hardTransfer
		start := r.now()
		if err := writeAt(fd, r.last, off); err != nil {
			return 0, fmt.Errorf("write %s/%s at offset %d: %w", dirHard, fileHard, off, err)
		}
		return r.ok(start, hardTransfer), nil
	})
	return finish(fd, dirHard+"/"+fileHard, true, err)
}

// easyRead reads the rank's own file: IOR shifts readers by whole nodes, and
// one process is one node.
func (r *rank) easyRead() error {
	name := easyFile(r.id)
	fd, err := r.openData(r.e.easyDir, dirEasy, name, flagsRead|r.e.direct())
	if err != nil {
		return err
	}
	file := dirEasy + "/" + name
	err = r.each(0, r.e.easyPairs, func(i int64) (int64, error) {
		return r.readBlock(fd, r.got, r.want, file, i*easyTransfer), nil
	})
	return finish(fd, file, false, err)
}

func (r *rank) hardRead() error {
	fd, err := r.openData(r.e.hardDir, dirHard, fileHard, flagsRead)
	if err != nil {
		return err
	}
	n := int64(r.e.plan.Ranks)
	err = r.each(0, r.e.hardPairs, func(i int64) (int64, error) {
		off := (i*n + int64(r.id)) * hardTransfer
		return r.readBlock(fd, r.got[:hardTransfer], r.last, dirHard+"/"+fileHard, off), nil
	})
	return finish(fd, dirHard+"/"+fileHard, false, err)
}

// rndRead reads random pages of the rank's ior-easy file for the length of the
// stonewall.
func (r *rank) rndRead() error {
	name := easyFile(r.id)
	fd, err := r.openData(r.e.easyDir, dirEasy, name, flagsRead|r.e.direct())
	if err != nil {
		return r.absent(err)
	}
	file := dirEasy + "/" + name
	pages := uint64(r.e.easyPairs * (easyTransfer / rndTransfer))
	state := uint64(r.e.plan.Seed)<<20 + uint64(r.id)
	err = r.untilWall(1<<40, func(int64) (int64, error) {
		// splitmix64: no state but a counter, and every page is as likely.
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		off := int64((z^z>>31)%pages) * rndTransfer
		in := off % easyTransfer
		return r.readBlock(fd, r.got[:rndTransfer], r.want[in:in+rndTransfer], file, off), nil
	})
	return finish(fd, file, false, err)
}

// readBlock reads and verifies one transfer. A failed read counts and the
// phase goes on, so that one bad block does not hide how the rest does.
func (r *rank) readBlock(fd int, got, want []byte, file string, off int64) int64 {
	spoil(got)
	start := r.now()
	if err := readAt(fd, got, off); err != nil {
		return r.miss(fmt.Sprintf("read %s at offset %d", file, off), err)
	}
	end := r.ok(start, int64(len(got)))
	r.check(got, want, file, off)
	return end
}
