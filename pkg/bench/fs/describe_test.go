package fs_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"aifbench/pkg/bench/fs"
)

// lfsFake answers as a Lustre client's lfs does.
type lfsFake struct {
	answers map[string]string
	code    int
	err     error
}

func (l lfsFake) Launch(_ context.Context, name string, args []string, _ string, _ []string, stdout, stderr io.Writer) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if name != "lfs" {
		return 127, nil
	}
	_, err := io.WriteString(stdout, l.answers[args[0]])
	_, err2 := io.WriteString(stderr, "lfs: \x1b[1mcannot\x07 open\n")
	return l.code, errors.Join(err, err2)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := fs.Describe(t.Context(), dir, lfsFake{answers: map[string]string{
		"getstripe": "stripe_count:  4 stripe_size:   1048576\x00\n",
		"df":        strings.Repeat("OST line\n", 20_000),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if l.FSType == "" || l.FreeBytes <= 0 || l.TotalBytes < l.FreeBytes || l.BlockBytes <= 0 {
		t.Errorf("%+v", l)
	}
	if (l.FreeInodes == nil) == (l.InodesReason == "") {
		t.Errorf("inodes %v, reason %q", l.FreeInodes, l.InodesReason)
	}
	if l.Stripe == nil || *l.Stripe != "stripe_count:  4 stripe_size:   1048576\ufffd" {
		t.Errorf("stripe %v", l.Stripe)
	}
	if l.Targets == nil || len(*l.Targets) > 64<<10 {
		t.Error("the answer of lfs df is not bounded")
	}
}

func TestDescribeWithoutLustre(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		l    fs.Launcher
		want string
	}{
		"no launcher": {nil, "no way"},
		"no lfs":      {lfsFake{err: errors.New("executable file not found")}, "not found"},
		"lfs fails":   {lfsFake{code: 95}, "ended with 95: lfs: \ufffd[1mcannot\ufffd open"},
	} {
		l, err := fs.Describe(t.Context(), t.TempDir(), c.l)
		if err != nil {
			t.Fatal(err)
		}
		if l.Stripe != nil || !strings.Contains(l.StripeReason, c.want) || l.Targets != nil || !strings.Contains(l.TargetReason, c.want) {
			t.Errorf("%s: %v %q, %v %q", name, l.Stripe, l.StripeReason, l.Targets, l.TargetReason)
		}
	}
	if _, err := fs.Describe(t.Context(), "/no/such/directory", nil); err == nil {
		t.Error("a missing directory is described")
	}
}

func TestDescribeTmpfs(t *testing.T) {
	t.Parallel()
	l, err := fs.Describe(t.Context(), mountTmpfs(t, "size=3m,nr_inodes=50"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.FSType != "tmpfs" || l.TotalBytes != 3<<20 || *l.TotalInodes != 50 || *l.FreeInodes != 49 {
		t.Errorf("%+v", l)
	}
}
