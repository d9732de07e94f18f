package archive

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/mholt/archiver/v4"
)

// This is the only file that imports the archive library, whose module is
// frozen: its successor (mholt/archives) has the same shape, so the swap is
// this file. The library swallows the errors of closing its writers and hands
// every unpacked name and link to its callback unchecked; the sticky writer
// below and the callers of walk make up for both.

// window caps the memory a foreign zstd frame can ask for.
const window = 64 << 20

// item is one file on its way into or out of a container.
type item struct {
	name    string
	mode    fs.FileMode
	modTime time.Time
	size    int64
	link    string
	open    func() (io.ReadCloser, error)
}

func container(f Format) (archiver.Archive, error) {
	tarball := archiver.Tar{NumericUIDGID: true}
	switch f {
	case Zip:
		z := archiver.Zip{Compression: zip.Deflate}
		return archiver.Archive{Archival: z, Extraction: z}, nil
	case TarZst:
		return archiver.Archive{Archival: tarball, Extraction: tarball, Compression: archiver.Zstd{
			// One goroutine: a login node counts CPU time, and the same
			// input must give the same bytes.
			EncoderOptions: []zstd.EOption{zstd.WithEncoderConcurrency(1)},
			DecoderOptions: []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window)},
		}}, nil
	case TarGz:
		return archiver.Archive{Archival: tarball, Extraction: tarball, Compression: archiver.Gz{}}, nil
	}
	return archiver.Archive{}, fmt.Errorf("format %q: %w", f, ErrFormat)
}

// pack writes the items in their order.
func pack(ctx context.Context, dst io.Writer, f Format, items []item) error {
	c, err := container(f)
	if err != nil {
		return err
	}
	files := make([]archiver.FileInfo, 0, len(items))
	for _, it := range items {
		files = append(files, archiver.FileInfo{
			FileInfo: info{it}, NameInArchive: it.name,
			Open: func() (fs.File, error) {
				rc, err := it.open()
				if err != nil {
					return nil, err
				}
				return file{rc, info{it}}, nil
			},
		})
	}
	out := &sticky{w: dst}
	if err := c.Archive(ctx, out, files); err != nil {
		return err
	}
	return out.err
}

// walk hands every entry of the container to visit, in order. Zip needs a
// reader that can seek; all formats take one.
func walk(ctx context.Context, src io.ReadSeeker, f Format, visit func(item) error) error {
	c, err := container(f)
	if err != nil {
		return err
	}
	return c.Extract(ctx, src, func(_ context.Context, fi archiver.FileInfo) error {
		return visit(item{
			name: fi.NameInArchive, mode: fi.Mode(), modTime: fi.ModTime(), size: fi.Size(), link: fi.LinkTarget,
			open: func() (io.ReadCloser, error) { return fi.Open() },
		})
	})
}

// sticky keeps the first error of its writer, which the library drops when it
// comes while a container is being closed.
type sticky struct {
	w   io.Writer
	err error
}

func (s *sticky) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	s.err = err
	return n, err
}

// info presents an item as the fs.FileInfo the library wants.
type info struct{ it item }

func (i info) Name() string       { return path.Base(i.it.name) }
func (i info) Size() int64        { return i.it.size }
func (i info) Mode() fs.FileMode  { return i.it.mode }
func (i info) ModTime() time.Time { return i.it.modTime }
func (i info) IsDir() bool        { return i.it.mode.IsDir() }
func (i info) Sys() any           { return nil }

type file struct {
	io.ReadCloser
	info info
}

func (f file) Stat() (fs.FileInfo, error) { return f.info, nil }

// errChanged is a member that changed between hashing and writing.
var errChanged = errors.New("file changed while it was being archived")
