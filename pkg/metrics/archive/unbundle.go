package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Limits caps what a foreign archive may unpack to.
type Limits struct {
	Members     int
	MemberBytes int64
	TotalBytes  int64
}

// DefaultLimits are wide enough for any run and narrow enough for a disk.
var DefaultLimits = Limits{Members: 100_000, MemberBytes: 16 << 30, TotalBytes: 64 << 30}

// UnsafeError is an archive that tries something no archive of ours does.
type UnsafeError struct{ Member, Why string }

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("unsafe archive: member %q %s", e.Member, e.Why)
}

// MismatchError is a member that is not what the manifest says.
type MismatchError struct{ Member, Why string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("archive does not match its manifest: member %q %s", e.Member, e.Why)
}

// Verify reads the whole archive and compares every member with the manifest;
// it writes nothing.
func Verify(ctx context.Context, src io.ReadSeeker, format Format, limits Limits) (*Manifest, error) {
	return read(ctx, src, format, limits, func(Entry, fs.FileMode) (io.WriteCloser, error) { return discard{}, nil })
}

// Unbundle unpacks the archive into dir, which must be empty or absent and is
// made 0700. Everything goes through os.Root, so nothing can land outside.
// Absolute names, "..", links, devices, more than the limits allow, members
// that the manifest does not list or that differ from it are errors; what was
// written until then stays in dir for the caller to remove.
func Unbundle(ctx context.Context, src io.ReadSeeker, format Format, dir string, limits Limits) (*Manifest, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("unpack archive: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack archive: %w", err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("unpack archive: %s is not empty: %w", dir, fs.ErrExist)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack archive: %w", err)
	}
	defer root.Close()
	return read(ctx, src, format, limits, func(e Entry, mode fs.FileMode) (io.WriteCloser, error) {
		if parent := path.Dir(e.Name); parent != "." {
			if err := root.MkdirAll(filepath.FromSlash(parent), 0o700); err != nil {
				return nil, err
			}
		}
		return root.OpenFile(filepath.FromSlash(e.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&0o755)
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// read walks the archive, checks each entry before its bytes are read and its
// bytes while they are written to what sink opens.
func read(ctx context.Context, src io.ReadSeeker, format Format, limits Limits, sink func(Entry, fs.FileMode) (io.WriteCloser, error)) (*Manifest, error) {
	var manifest *Manifest
	want := map[string]Entry{}
	var total int64
	count := 0
	err := walk(ctx, src, format, func(it item) error {
		count++
		if count > limits.Members {
			return &UnsafeError{it.name, fmt.Sprintf("is beyond the limit of %d members", limits.Members)}
		}
		if err := checkItem(it); err != nil {
			return err
		}
		if manifest == nil {
			if it.name != ManifestName {
				return &MismatchError{it.name, "comes before the manifest"}
			}
			data, err := readManifest(it)
			if err != nil {
				return err
			}
			if manifest, err = DecodeManifest(data); err != nil {
				return err
			}
			for _, e := range manifest.Members {
				want[e.Name] = e
			}
			// The manifest is unpacked too; its own entry describes it.
			sum := sha256.Sum256(data)
			want[ManifestName] = Entry{Name: ManifestName, SizeBytes: int64(len(data)), Mode: "0600", SHA256: hex.EncodeToString(sum[:])}
			it.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		}
		e, ok := want[it.name]
		if !ok {
			return &MismatchError{it.name, "is not listed, or comes twice"}
		}
		delete(want, it.name)
		if e.SizeBytes > limits.MemberBytes || e.SizeBytes > limits.TotalBytes-total {
			return &UnsafeError{it.name, fmt.Sprintf("of %d bytes is beyond the limits", e.SizeBytes)}
		}
		total += e.SizeBytes
		return copyEntry(ctx, it, e, sink)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read archive: %w", err)
	case manifest == nil:
		return nil, fmt.Errorf("read archive: %w", &MismatchError{ManifestName, "is missing"})
	}
	for _, e := range manifest.Members {
		if _, missing := want[e.Name]; missing {
			return nil, fmt.Errorf("read archive: %w", &MismatchError{e.Name, "is missing"})
		}
	}
	return manifest, nil
}

// checkItem refuses an entry by its name and kind alone.
func checkItem(it item) error {
	switch {
	case it.link != "":
		return &UnsafeError{it.name, "is a link"}
	case !it.mode.IsRegular():
		return &UnsafeError{it.name, "is not a regular file (" + it.mode.Type().String() + ")"}
	case it.mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
		return &UnsafeError{it.name, "has a set-id or sticky bit"}
	}
	if err := checkName(it.name); err != nil {
		return &UnsafeError{it.name, "has an unsafe name"}
	}
	return nil
}

func readManifest(it item) ([]byte, error) {
	rc, err := it.open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxManifest {
		return nil, &UnsafeError{it.name, "is too large"}
	}
	return data, nil
}

// copyEntry copies at most one byte more than the manifest says, so an entry
// that unpacks to more than it claims is found without unpacking it.
func copyEntry(ctx context.Context, it item, e Entry, sink func(Entry, fs.FileMode) (io.WriteCloser, error)) (err error) {
	mode, err := parseMode(e.Mode)
	if err != nil {
		return err
	}
	rc, err := it.open()
	if err != nil {
		return err
	}
	defer rc.Close()
	w, err := sink(e, mode)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(reader{ctx, rc}, e.SizeBytes+1))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &MismatchError{it.name, "is truncated"}
	case err != nil:
		return err
	case n != e.SizeBytes:
		return &MismatchError{it.name, fmt.Sprintf("has not the %d bytes of the manifest", e.SizeBytes)}
	case hex.EncodeToString(sum.Sum(nil)) != e.SHA256:
		return &MismatchError{it.name, "has another SHA-256"}
	}
	return nil
}
