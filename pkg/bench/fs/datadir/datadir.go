// Package datadir owns the directory that the file-system benchmark writes
// into: who may use it, the marker that says so, and the removal of exactly
// what was made. Links are never followed and no other device is entered. It
// must not know what is measured.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrForeign is returned for a directory that holds something and does not
// carry the caller's marker. Its message ends with what to do.
var ErrForeign = errors.New("data directory is not ours")

// Dir is the work directory of one benchmark inside a data directory. All
// access goes through its descriptor, so renaming or replacing a component of
// the path afterwards cannot lead it astray.
type Dir struct {
	parent  *os.File
	work    *os.File
	name    string
	path    string
	dev     uint64
	claimed bool // the data directory's marker was written by us
	created bool // the data directory itself was made by us
	nonce   string
}

// Prepare makes the data directory at path when it is absent and puts the
// marker of a run into it, so that Open with the same nonce accepts it later.
// It is repeatable. A directory with other content is refused with ErrForeign.
func Prepare(path, nonce, run string) error {
	if nonce == "" {
		return errors.New("prepare data directory: no nonce")
	}
	parent, _, err := openParent(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	_, err = claim(parent, nonce, run)
	return err
}

// Open claims a work directory of its own for a run inside the data directory
// at path. The data directory may be absent, empty or marked with nonce; an
// unmarked one is marked with the run's id until Remove. Leftovers of the same
// run, whose work directory carries its marker, are removed first.
func Open(path, nonce, run string, ours Ours) (*Dir, error) {
	if run == "" || strings.ContainsAny(run, "/\x00") || strings.HasPrefix(run, ".") {
		return nil, fmt.Errorf("open data directory: run id %q cannot be a directory's name", run)
	}
	parent, created, err := openParent(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{parent: parent, name: "aifbench-" + run, path: filepath.Join(path, "aifbench-"+run), created: created, nonce: nonce}
	if d.nonce == "" {
		d.nonce = run
	}
	if d.claimed, err = claim(parent, d.nonce, run); err != nil {
		return nil, errors.Join(err, parent.Close(), d.undoCreate(path))
	}
	if err := d.makeWork(ours, run); err != nil {
		return nil, errors.Join(err, d.unclaim(), parent.Close(), d.undoCreate(path))
	}
	return d, nil
}

// makeWork makes the work directory and opens it.
func (d *Dir) makeWork(ours Ours, run string) error {
	pfd := int(d.parent.Fd())
	err := unix.Mkdirat(pfd, d.name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		old, oerr := openDir(pfd, d.name)
		if oerr != nil {
			return fmt.Errorf("open leftover %s: %w", d.path, oerr)
		}
		m, merr := readMarker(int(old.Fd()))
		if merr != nil || m.Nonce != d.nonce || m.Run != run {
			return errors.Join(fmt.Errorf("%w: %s exists and is not of this run; remove it by hand", ErrForeign, d.path), old.Close())
		}
		d.work = old
		rep, rerr := d.removeWork(ours)
		if cerr := old.Close(); rerr != nil || cerr != nil {
			return errors.Join(rerr, cerr)
		}
		if rep.LeftCount > 0 {
			return fmt.Errorf("%w: %s holds %d foreign entries such as %q; remove them by hand", ErrForeign, d.path, rep.LeftCount, rep.Left[0])
		}
		err = unix.Mkdirat(pfd, d.name, 0o700)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", d.path, err)
	}
	if d.work, err = openDir(pfd, d.name); err != nil {
		return fmt.Errorf("open %s: %w", d.path, err)
	}
	var ps, ws unix.Stat_t
	if err := errors.Join(unix.Fstat(pfd, &ps), unix.Fstat(int(d.work.Fd()), &ws)); err != nil {
		return errors.Join(fmt.Errorf("stat %s: %w", d.path, err), d.work.Close())
	}
	if ps.Dev != ws.Dev {
		return errors.Join(fmt.Errorf("open %s: it is on another device than its parent", d.path), d.work.Close())
	}
	d.dev = uint64(ws.Dev)
	if err := writeMarker(int(d.work.Fd()), d.nonce, run); err != nil {
		return errors.Join(err, d.work.Close(), unix.Unlinkat(pfd, d.name, unix.AT_REMOVEDIR))
	}
	return nil
}

// Fd is the descriptor of the work directory; it stays open until Close.
func (d *Dir) Fd() int { return int(d.work.Fd()) }

// Path is the work directory's path, for people and for other programs.
func (d *Dir) Path() string { return d.path }

// Close releases the descriptors and leaves everything where it is.
func (d *Dir) Close() error { return errors.Join(d.work.Close(), d.parent.Close()) }

// unclaim takes the marker away when this run put it there and nothing else
// is left that it would protect.
func (d *Dir) unclaim() error {
	if !d.claimed {
		return nil
	}
	return unix.Unlinkat(int(d.parent.Fd()), MarkerName, 0)
}

func (d *Dir) undoCreate(path string) error {
	if !d.created {
		return nil
	}
	// A directory that got content meanwhile stays.
	if err := os.Remove(path); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// openParent opens the data directory, made when absent. Links in the path
// that the user typed are resolved once; the directory itself is then opened
// without following.
func openParent(path string) (*os.File, bool, error) {
	created := false
	if err := os.Mkdir(path, 0o700); err == nil {
		created = true
	} else if !errors.Is(err, os.ErrExist) {
		return nil, false, fmt.Errorf("make data directory: %w", err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, created, fmt.Errorf("resolve data directory: %w", err)
	}
	f, err := openDir(unix.AT_FDCWD, real)
	if err != nil {
		return nil, created, fmt.Errorf("open data directory %s: %w", path, err)
	}
	return f, created, nil
}

func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// claim checks the owner of an opened data directory and marks an empty one.
// It reports whether it wrote the marker.
func claim(dir *os.File, nonce, run string) (bool, error) {
	fd := int(dir.Fd())
	m, err := readMarker(fd)
	switch {
	case err == nil && m.Nonce == nonce:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("%w: %s carries the marker of run %q; give an empty directory or bench that run", ErrForeign, dir.Name(), m.Run)
	case !errors.Is(err, unix.ENOENT):
		return false, err
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return false, fmt.Errorf("read data directory: %w", err)
	}
	names, err := dir.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read data directory: %w", err)
	}
	if len(names) > 0 {
		return false, fmt.Errorf("%w: %s is not empty (it holds %q) and has no marker; give an empty or new directory", ErrForeign, dir.Name(), names[0])
	}
	return true, writeMarker(fd, nonce, run)
}
