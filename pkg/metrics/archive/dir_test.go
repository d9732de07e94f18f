package archive_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/metrics/archive"
)

func TestDir(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	dir := filepath.Join(outer, "run dir 'q\"")
	for name, content := range map[string]string{"run.json": "{}", "logs/engine.out": "hello", "journal/1.json": "{}", "back\\slash": "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(outer, "outside")
	if err := os.WriteFile(secret, []byte("not yours"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"planted": secret, "dirlink": outer, "relative": "../outside"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	members, skipped, err := archive.Dir(dir, "vllm-x")
	if err != nil {
		t.Fatal(err)
	}
	var names, left []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	for _, s := range skipped {
		left = append(left, s.Name)
		if s.Reason == "" {
			t.Errorf("%s is skipped without a reason", s.Name)
		}
	}
	if diff := cmp.Diff([]string{"vllm-x/journal/1.json", "vllm-x/logs/engine.out", "vllm-x/run.json"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"vllm-x/back\\slash", "vllm-x/dirlink", "vllm-x/pipe", "vllm-x/planted", "vllm-x/relative"}, left); diff != "" {
		t.Error(diff)
	}
	data := bundle(t, archive.TarZst, members, archive.Secrets{})
	if bytes.Contains(data, []byte("not yours")) {
		t.Error("the archive holds a file from outside")
	}
	if _, _, err := archive.Dir(filepath.Join(outer, "none"), ""); err == nil {
		t.Error("a missing directory has members")
	}
	// What takes a file's place after the walk is not followed and does not hang.
	for name, plant := range map[string]func(path string) error{
		"link":        func(p string) error { return os.Symlink(secret, p) },
		"link inside": func(p string) error { return os.Symlink("logs/engine.out", p) },
		"pipe":        func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"dir":         func(p string) error { return os.Mkdir(p, 0o700) },
		"gone":        func(string) error { return nil },
	} {
		path := filepath.Join(dir, "run.json")
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := plant(path); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, members, archive.Meta{}, archive.Secrets{}); err == nil {
			t.Errorf("a %s in the place of a file was archived", name)
		}
	}
}
