package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Ours tells whether an entry, by its slash-separated path below the work
// directory, has a name that the benchmark gives to a file (dir false) or a
// directory (dir true). Everything else is foreign and stays.
type Ours func(rel string, dir bool) bool

// Report says what a removal did. Left names at most maxLeft of the LeftCount
// foreign entries that were kept.
type Report struct {
	Files     int64    `json:"files"`
	Dirs      int64    `json:"dirs"`
	Left      []string `json:"left"`
	LeftCount int64    `json:"left_count"`
}

const maxLeft = 20

func (r *Report) keep(rel, why string) {
	r.LeftCount++
	if len(r.Left) < maxLeft {
		r.Left = append(r.Left, rel+" ("+why+")")
	}
}

// Remove deletes what the benchmark made and closes the directory. Foreign
// entries, links, other devices and the directories that hold them stay and
// are reported; then the markers stay as well.
func (d *Dir) Remove(ours Ours) (Report, error) {
	rep, err := d.removeWork(ours)
	if err == nil && rep.LeftCount == 0 {
		err = d.unclaim()
		if err == nil {
			err = d.undoCreate(d.parent.Name())
		}
	}
	return rep, errors.Join(err, d.Close())
}

func (d *Dir) removeWork(ours Ours) (Report, error) {
	rep := Report{Left: []string{}}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.work.Fd()), &st); err != nil {
		return rep, fmt.Errorf("remove data: %w", err)
	}
	w := walk{ours: ours, dev: uint64(st.Dev), rep: &rep}
	if err := w.empty(d.work, ""); err != nil {
		return rep, fmt.Errorf("remove data in %s: %w", d.path, err)
	}
	if rep.LeftCount > 0 {
		return rep, nil
	}
	// The marker goes last: a removal that was cut off can be taken up again.
	if err := unix.Unlinkat(int(d.work.Fd()), MarkerName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return rep, fmt.Errorf("remove marker: %w", err)
	}
	if err := unix.Unlinkat(int(d.parent.Fd()), d.name, unix.AT_REMOVEDIR); err != nil {
		return rep, fmt.Errorf("remove %s: %w", d.path, err)
	}
	rep.Dirs++
	return rep, nil
}

type walk struct {
	ours Ours
	dev  uint64
	rep  *Report
}

// empty removes our entries of dir, which is open, and below.
func (w *walk) empty(dir *os.File, rel string) error {
	// Entries are listed before they are removed, a chunk at a time, until a
	// pass removes nothing more: removal while reading may skip entries.
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		before := w.rep.Files + w.rep.Dirs
		left, count := len(w.rep.Left), w.rep.LeftCount
		for {
			names, err := dir.Readdirnames(4096)
			for _, name := range names {
				if err := w.entry(dir, rel, name); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		if w.rep.Files+w.rep.Dirs == before {
			return nil
		}
		// The next pass meets the foreign entries again.
		w.rep.Left, w.rep.LeftCount = w.rep.Left[:left], count
	}
}

func (w *walk) entry(dir *os.File, rel, name string) error {
	path := name
	if rel != "" {
		path = rel + "/" + name
	}
	if path == MarkerName {
		return nil
	}
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("stat %s: %w", path, err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case uint64(st.Dev) != w.dev:
		w.rep.keep(path, "on another device")
		return nil
	case !isDir && st.Mode&unix.S_IFMT != unix.S_IFREG:
		w.rep.keep(path, "not a plain file")
		return nil
	case !w.ours(path, isDir):
		w.rep.keep(path, "not made by the benchmark")
		return nil
	case !isDir:
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		w.rep.Files++
		return nil
	}
	sub, err := openDir(fd, name)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	// The directory may have been swapped since the stat.
	if err := unix.Fstat(int(sub.Fd()), &st); err != nil || uint64(st.Dev) != w.dev {
		w.rep.keep(path, "on another device")
		return errors.Join(err, sub.Close())
	}
	left := w.rep.LeftCount
	if err := errors.Join(w.empty(sub, path), sub.Close()); err != nil {
		return err
	}
	if w.rep.LeftCount > left {
		return nil
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	w.rep.Dirs++
	return nil
}
