// Package archive owns the file that save writes: its formats, its manifest,
// what may never be inside, and how it is checked and unpacked. It must not
// know what a run is or which of its files matter; callers hand it members.
package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Format is a container with its compression.
type Format string

// The formats, named by the extension that chooses them.
const (
	Zip    Format = "zip"
	TarZst Format = "tar.zst"
	TarGz  Format = "tar.gz"
)

// extensions in the order they are tried and shown.
var extensions = []struct {
	suffix string
	format Format
}{{".zip", Zip}, {".tar.zst", TarZst}, {".tzst", TarZst}, {".tar.gz", TarGz}, {".tgz", TarGz}}

// ErrFormat is the error of a file name whose extension is no format.
var ErrFormat = errors.New("unknown archive format")

// ErrExists is the error of an archive that is there already.
var ErrExists = errors.New("archive exists")

// FormatOf chooses the format by the name's extension, whatever its case. A
// name without a known one is ErrFormat.
func FormatOf(name string) (Format, error) {
	lower := strings.ToLower(name)
	for _, e := range extensions {
		if strings.HasSuffix(lower, e.suffix) && len(path.Base(lower)) > len(e.suffix) {
			return e.format, nil
		}
	}
	return "", fmt.Errorf("archive %q: %w; end the name in .zip, .tar.zst or .tar.gz", name, ErrFormat)
}

// Member is one file that goes into the archive.
type Member struct {
	// Name is the slash-separated path inside the archive, relative, clean,
	// unique.
	Name string
	// Mode is the permission bits; zero means 0600.
	Mode fs.FileMode
	// ModTime is kept to the second; zero means 1980-01-01, so that equal
	// contents are equal bytes.
	ModTime time.Time
	// Open returns the contents from the start. It is called twice: once to
	// hash and search, once to write.
	Open func() (io.ReadCloser, error)
}

// File makes a member of a regular file on disk. A symbolic link, directory or
// device is refused: what it points at is not the run's own.
func File(name, diskPath string) (Member, error) {
	info, err := os.Lstat(diskPath)
	if err != nil {
		return Member{}, fmt.Errorf("add %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return Member{}, fmt.Errorf("add %s: not a regular file (%s)", name, info.Mode().Type())
	}
	return Member{
		Name: name, Mode: info.Mode().Perm(), ModTime: info.ModTime(),
		Open: func() (io.ReadCloser, error) { return openIn(filepath.Dir(diskPath), filepath.Base(diskPath)) },
	}, nil
}

// Bytes makes a member of contents in memory.
func Bytes(name string, data []byte) Member {
	return Member{Name: name, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(data))), nil
	}}
}

// Secrets says what may not enter an archive.
type Secrets struct {
	// Deny tells of a member's name that the file is a secret; it is left out
	// and counted in the manifest. nil denies nothing.
	Deny func(name string) bool
	// Strings are the secrets themselves (run key, token). A member that
	// holds one, in plain or base64 form, stops the archive. Strings shorter than
	// eight bytes are refused, since they would match by chance.
	Strings [][]byte
}

// SecretError is a member that holds one of the secret strings. It names the
// member and never the secret.
type SecretError struct{ Member string }

func (e *SecretError) Error() string {
	return fmt.Sprintf("archive refused: member %q holds a secret of the run; remove it from the file or leave the file out", e.Member)
}
