package archive

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Skipped is a file of a directory that cannot be a member, and why.
type Skipped struct{ Name, Reason string }

// Dir makes members of all regular files below dir, named prefix/relative/path
// (prefix may be empty). Links, sockets, devices and files whose names no
// archive may hold are skipped and told, never followed; so is what cannot be
// read or vanishes meanwhile. Files are opened through an os.Root, so a link
// that is planted later leads nowhere either.
func Dir(dir, prefix string) (members []Member, skipped []Skipped, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("collect members: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		full := path.Join(prefix, name)
		if err != nil {
			if name == "." {
				return err
			}
			skipped = append(skipped, Skipped{full, err.Error()})
			return nil
		}
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() {
			skipped = append(skipped, Skipped{full, "not a regular file (" + d.Type().String() + ")"})
			return nil
		}
		if err := checkName(full); err != nil {
			skipped = append(skipped, Skipped{full, err.Error()})
			return nil
		}
		info, err := d.Info()
		if err != nil {
			skipped = append(skipped, Skipped{full, err.Error()})
			return nil
		}
		members = append(members, Member{
			Name: full, Mode: info.Mode().Perm(), ModTime: info.ModTime(),
			Open: func() (io.ReadCloser, error) { return openIn(dir, name) },
		})
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("collect members: %w", err)
	}
	return members, skipped, nil
}

// openIn opens one regular file below dir. An os.Root keeps every link inside
// dir but follows those that stay there, whatever the flags; comparing what was
// looked at with what was opened refuses these too.
func openIn(dir, name string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no longer a regular file", name)
	}
	// O_NONBLOCK: a pipe that takes the file's place must not hang the save.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(seen, opened) {
		err = fmt.Errorf("%s was replaced while it was opened", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
