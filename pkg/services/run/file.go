package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile writes data so that a reader sees the old file or the new one,
// never a part: temporary file in the same directory, fsync, rename, fsync of
// the directory. The mode is 0600.
func WriteFile(path string, data []byte) error {
	return writeFile(path, data, 0o600, os.Rename)
}

// WriteExecutable is WriteFile with mode 0700, for scripts.
func WriteExecutable(path string, data []byte) error {
	return writeFile(path, data, 0o700, os.Rename)
}

// CreateFile is WriteFile that fails with os.ErrExist when path is there: the
// content arrives whole by link(2), so of several writers exactly one wins.
func CreateFile(path string, data []byte) error {
	return writeFile(path, data, 0o600, func(tmp, to string) error {
		if err := os.Link(tmp, to); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
}

func writeFile(path string, data []byte, mode os.FileMode, place func(tmp, to string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	tmp := f.Name()
	defer func() {
		if err != nil {
			_ = f.Close()
			if rerr := os.Remove(tmp); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if _, err = f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err = place(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(dir), err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(dir), err)
	}
	return nil
}

// WriteJSON writes v as indented JSON by WriteFile.
func WriteJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return WriteFile(path, append(raw, '\n'))
}

// ReadJSON reads one of our own files. Unknown fields are accepted: a newer
// program may have written it.
func ReadJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}
