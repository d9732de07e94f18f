package archive

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// epoch is the stamp of members that have none: the first one zip can hold.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Bundle writes members, sorted by name, behind a manifest into dst. Files
// that secrets.Deny names are left out; a member that holds one of
// secrets.Strings stops it with a *SecretError before anything is written of
// the archive. A member that grows meanwhile is cut at the length it had when
// it was hashed; any other change is an error. What was already written to dst
// when an error comes is of no use: write to a temporary file, as Save does.
func Bundle(ctx context.Context, dst io.Writer, format Format, members []Member, meta Meta, secrets Secrets) (*Manifest, error) {
	find, err := needles(secrets.Strings)
	if err != nil {
		return nil, err
	}
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	manifest := &Manifest{
		SchemaVersion: SchemaVersion, Tool: "aifbench", ToolVersion: meta.ToolVersion,
		Run: meta.Run, Service: meta.Service, Created: meta.Created, Members: []Entry{},
	}
	items := make([]item, 1, len(sorted)+1)
	for i, m := range sorted {
		if err := checkName(m.Name); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		if i > 0 && sorted[i-1].Name == m.Name || m.Name == ManifestName {
			return nil, fmt.Errorf("bundle: member %q twice", m.Name)
		}
		if secrets.Deny != nil && secrets.Deny(m.Name) {
			manifest.Excluded++
			continue
		}
		entry, err := inspect(ctx, m, find)
		if err != nil {
			return nil, err
		}
		manifest.Members = append(manifest.Members, entry)
		items = append(items, memberItem(m, entry))
	}
	head, err := manifest.encode()
	if err != nil {
		return nil, err
	}
	scan := newScanner(find)
	if _, err := scan.Write(head); err != nil {
		return nil, &SecretError{Member: ManifestName}
	}
	items[0] = item{name: ManifestName, mode: 0o600, modTime: epoch, size: int64(len(head)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(head)), nil
	}}
	if err := pack(ctx, dst, format, items); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return manifest, nil
}

// inspect reads a member once: size, hash, secrets.
func inspect(ctx context.Context, m Member, find [][]byte) (Entry, error) {
	rc, err := m.Open()
	if err != nil {
		return Entry{}, fmt.Errorf("bundle %s: %w", m.Name, err)
	}
	defer rc.Close()
	sum, scan := sha256.New(), newScanner(find)
	n, err := io.Copy(io.MultiWriter(sum, scan), reader{ctx, rc})
	if scan.found {
		return Entry{}, &SecretError{Member: m.Name}
	}
	if err != nil {
		return Entry{}, fmt.Errorf("bundle %s: %w", m.Name, err)
	}
	return Entry{Name: m.Name, SizeBytes: n, Mode: formatMode(mode(m)), SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

func mode(m Member) fs.FileMode {
	if m.Mode.Perm() == 0 {
		return 0o600
	}
	return m.Mode.Perm()
}

// memberItem is the second reading of a member: exactly the bytes that were
// hashed, or an error.
func memberItem(m Member, e Entry) item {
	stamp := m.ModTime.UTC().Truncate(time.Second)
	if m.ModTime.IsZero() || stamp.Before(epoch) {
		stamp = epoch
	}
	return item{name: m.Name, mode: mode(m), modTime: stamp, size: e.SizeBytes, open: func() (io.ReadCloser, error) {
		rc, err := m.Open()
		if err != nil {
			return nil, err
		}
		return &again{rc: rc, left: e.SizeBytes, want: e.SHA256, sum: sha256.New()}, nil
	}}
}

// again reads a member for the second time and fails at its end when it is
// not what was hashed, so a secret written in between cannot slip in.
type again struct {
	rc   io.ReadCloser
	left int64
	want string
	sum  hash.Hash
}

func (a *again) Read(p []byte) (int, error) {
	if a.left == 0 {
		if hex.EncodeToString(a.sum.Sum(nil)) != a.want {
			return 0, errChanged
		}
		return 0, io.EOF
	}
	if int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.rc.Read(p)
	a.left -= int64(n)
	a.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		err = nil
		if a.left > 0 {
			err = errChanged
		}
	}
	return n, err
}

func (a *again) Close() error { return a.rc.Close() }

// reader stops a long copy when its context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Save bundles into the file at path, which appears whole or not at all (a
// temporary file beside it, synced, then linked or renamed), mode 0600. An existing
// path is ErrExists unless force; the caller chooses format with FormatOf.
func Save(ctx context.Context, path string, format Format, members []Member, meta Meta, secrets Secrets, force bool) (m *Manifest, err error) {
	if !force {
		if _, err := os.Lstat(path); err == nil {
			return nil, existsError(path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("save archive: %w", err)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("save archive: %w", err)
	}
	// After a rename the name is gone, after a link or an error it must go.
	defer func() { _ = os.Remove(tmp.Name()) }()
	m, err = Bundle(ctx, tmp, format, members, meta, secrets)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("save archive %s: %w", path, err)
	}
	if force {
		err = os.Rename(tmp.Name(), path)
	} else {
		err = place(tmp.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("save archive: %w", err)
	}
	return m, nil
}

// place gives the finished file its name unless somebody took it meanwhile. A
// file system without hard links falls back to a second look and a rename.
func place(tmp, path string) error {
	err := os.Link(tmp, path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return existsError(path)
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EPERM):
		if _, serr := os.Lstat(path); serr == nil {
			return existsError(path)
		}
		return os.Rename(tmp, path)
	}
	return err
}

func existsError(path string) error {
	return fmt.Errorf("%s: %w; give another name or --force", path, ErrExists)
}
