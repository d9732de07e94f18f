package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// Launcher starts a long child process and waits for its end. The error is nil
// whatever the exit code. A nil env is the launcher's own cleaned environment;
// the child ends when ctx does.
type Launcher interface {
	Launch(ctx context.Context, name string, args []string, dir string, env []string, stdout, stderr io.Writer) (code int, err error)
}

// Layout describes the file system under a directory. Inodes are null where
// the file system has no fixed number; the Lustre texts are null with a reason
// where there is no lfs or it fails.
type Layout struct {
	Dir          string  `json:"dir"`
	FSType       string  `json:"fs_type"`
	FSMagic      string  `json:"fs_magic"`
	BlockBytes   int64   `json:"block_bytes"`
	TotalBytes   int64   `json:"total_bytes"`
	FreeBytes    int64   `json:"free_bytes"`
	TotalInodes  *int64  `json:"total_inodes"`
	FreeInodes   *int64  `json:"free_inodes"`
	InodesReason string  `json:"inodes_reason,omitempty"`
	ReadOnly     bool    `json:"read_only"`
	Stripe       *string `json:"lfs_getstripe"`
	StripeReason string  `json:"lfs_getstripe_reason,omitempty"`
	Targets      *string `json:"lfs_df"`
	TargetReason string  `json:"lfs_df_reason,omitempty"`
}

// magics are the file systems met on clusters, by statfs number.
var magics = []struct {
	magic int64
	name  string
}{
	{0x0BD00BD0, "lustre"},
	{0x6969, "nfs"},
	{0x01021994, "tmpfs"},
	{0xEF53, "ext4"}, // ext2 and ext3 share the number
	{0x58465342, "xfs"},
	{0x794c7630, "overlay"},
	{0x47504653, "gpfs"},
	{0x19830326, "beegfs"},
	{0x9123683E, "btrfs"},
	{0x2FC12FC1, "zfs"},
	{0x00C36400, "ceph"},
	{0x65735546, "fuse"},
	{0xFF534D42, "cifs"},
	{0xFE534D42, "smb2"},
	{0x01021997, "9p"},
	{0x858458f6, "ramfs"},
	{0x7461636f, "ocfs2"},
	{0x01161970, "gfs2"},
	{0xF2F52010, "f2fs"},
	{0xca451a4e, "bcachefs"},
	{0x6a656a63, "virtiofs"},
}

// typeName names a statfs number; an unknown one is "unknown".
func typeName(magic int64) string {
	for _, m := range magics {
		if m.magic == magic {
			return m.name
		}
	}
	return "unknown"
}

// lfsLimit bounds what is kept of an answer of lfs, which lists every target.
const (
	lfsLimit   = 64 << 10
	lfsTimeout = 20 * time.Second
)

// Describe reads the file system under dir. A failing lfs is a reason inside
// the layout; only a directory that cannot be read is an error.
func Describe(ctx context.Context, dir string, l Launcher) (Layout, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Layout{}, fmt.Errorf("describe %s: %w", dir, err)
		}
		break
	}
	magic := int64(uint32(st.Type))
	out := Layout{
		Dir: dir, FSType: typeName(magic), FSMagic: fmt.Sprintf("0x%08x", magic),
		BlockBytes: int64(st.Bsize),
		TotalBytes: int64(st.Blocks) * int64(st.Bsize),
		FreeBytes:  int64(st.Bavail) * int64(st.Bsize),
		ReadOnly:   st.Flags&unix.ST_RDONLY != 0,
	}
	if st.Files == 0 {
		out.InodesReason = "the file system has no fixed number of inodes"
	} else {
		total, free := int64(st.Files), int64(st.Ffree)
		out.TotalInodes, out.FreeInodes = &total, &free
	}
	out.Stripe, out.StripeReason = lfs(ctx, l, "getstripe", "-d", dir)
	out.Targets, out.TargetReason = lfs(ctx, l, "df", dir)
	return out, nil
}

// lfs runs one question; the answer is text of another program and keeps only
// printable characters.
func lfs(ctx context.Context, l Launcher, args ...string) (*string, string) {
	if l == nil {
		return nil, "no way to run lfs here"
	}
	ctx, cancel := context.WithTimeout(ctx, lfsTimeout)
	defer cancel()
	var stdout, stderr limited
	code, err := l.Launch(ctx, "lfs", args, "/", nil, &stdout, &stderr)
	switch {
	case err != nil:
		return nil, "lfs did not run: " + clean(err.Error(), 200)
	case code != 0:
		return nil, fmt.Sprintf("lfs %s ended with %d: %s", args[0], code, clean(stderr.String(), 200))
	}
	text := clean(stdout.String(), lfsLimit)
	return &text, ""
}

// limited keeps the first lfsLimit bytes written and drops the rest. The
// buffer is not embedded: its ReadFrom would let a copy pass by the limit.
type limited struct{ buf bytes.Buffer }

func (b *limited) Write(p []byte) (int, error) {
	if room := lfsLimit - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *limited) String() string { return b.buf.String() }

// clean makes another program's text fit for a document: valid UTF-8, no
// control characters but line ends and tabs, at most limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, strings.ToValidUTF8(s, "\ufffd"))
	s = strings.TrimSpace(s)
	for len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
