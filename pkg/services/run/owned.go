package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// OwnerMarker is the file that says which run may remove a directory. It
// holds the run's nonce.
const OwnerMarker = ".aifbench-owner"

// ErrNotOwned: a path is not provably this run's, so nothing was removed.
var ErrNotOwned = errors.New("path is not owned by this run")

// MarkOwned makes dir (which must be new or empty) the property of the run.
func MarkOwned(dir, nonce string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() != OwnerMarker {
			return fmt.Errorf("mark %s: %w: the directory is not empty", dir, ErrNotOwned)
		}
	}
	if len(entries) == 1 {
		return CheckOwned(dir, nonce)
	}
	if err := CreateFile(filepath.Join(dir, OwnerMarker), []byte(nonce+"\n")); err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	return nil
}

// CheckOwned verifies the marker of dir. os.ErrNotExist is wrapped when dir is gone.
func CheckOwned(dir, nonce string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check owner of %s: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("check owner of %s: %w: not a directory", dir, ErrNotOwned)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("check owner of %s: %w", dir, err)
	}
	defer root.Close()
	raw, err := root.ReadFile(OwnerMarker)
	if err != nil {
		return fmt.Errorf("check owner of %s: %w: no readable marker: %w", dir, ErrNotOwned, ignoreNotExist(err))
	}
	if strings.TrimSpace(string(raw)) != nonce || nonce == "" {
		return fmt.Errorf("check owner of %s: %w: the marker names another run", dir, ErrNotOwned)
	}
	return nil
}

// ignoreNotExist keeps a missing marker from looking like a missing directory.
func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("marker is missing")
	}
	return err
}

// RemoveOwned removes dir if its marker carries nonce: everything below it on
// the same device, links removed and never followed, the marker last so that
// an interrupted removal can be repeated. A directory that is gone is success.
func RemoveOwned(dir, nonce string) error {
	err := CheckOwned(dir, nonce)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	defer root.Close()
	top, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	dev := deviceOf(top)
	if err := sameDevice(root, ".", dev); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() == OwnerMarker {
			continue
		}
		if err := root.RemoveAll(e.Name()); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	if err := root.Remove(OwnerMarker); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// sameDevice walks before anything is removed, so that a file system mounted
// below the directory stops the removal with nothing lost.
func sameDevice(root *os.Root, dir string, dev uint64) error {
	return fs.WalkDir(root.FS(), dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if d := deviceOf(info); d != dev {
			return fmt.Errorf("%w: %s is on another device", ErrNotOwned, path)
		}
		return nil
	})
}

func deviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
