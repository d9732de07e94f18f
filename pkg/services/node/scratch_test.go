package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/services/run"
)

func TestTempHasRoomForSockets(t *testing.T) {
	t.Parallel()
	nonce := run.NewNonce()
	for name, root := range map[string]string{"short": "/tmp", "long": filepath.Join(t.TempDir(), strings.Repeat("x", 60))} {
		if err := os.MkdirAll(root, 0o700); err != nil {
			t.Fatal(err)
		}
		scratch, err := makeScratch(root, name, "n1", nonce)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := makeTemp(scratch, nonce, 0)
		if err != nil {
			t.Fatal(err)
		}
		if inside := strings.HasPrefix(dir, scratch); inside != (name == "short") || len(dir)+1+36 > 107 {
			t.Errorf("%s: %s of %d bytes", name, dir, len(dir))
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", name, info, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "left"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		// A requeued job takes over what its first start left.
		if again, err := makeTemp(scratch, nonce, 0); err != nil || again != dir {
			t.Errorf("again: %s %v", again, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "left")); err == nil {
			t.Error("what the first start left is still there")
		}
		for _, d := range []string{dir, scratch} {
			if err := run.RemoveOwned(d, nonce); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAnEngineLeavesNoTemporaryFiles(t *testing.T) {
	t.Parallel()
	scratch := t.TempDir()
	s := &supervisor{scratch: scratch, temp: filepath.Join(scratch, "tmp")}
	s.Environ = []string{"TMPDIR=/elsewhere"}
	last := ""
	for _, e := range s.engineEnv(&engine{}) {
		if v, ok := strings.CutPrefix(e, "TMPDIR="); ok {
			last = v
		}
	}
	if last != s.temp {
		t.Errorf("TMPDIR of an engine is %q", last)
	}
}
