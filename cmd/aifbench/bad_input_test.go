package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBadInputNamesTests: every row of docs/bad-input.md names a test that is
// there, in the folder that the row says.
func TestBadInputNamesTests(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	raw, err := os.ReadFile(filepath.Join(root, "docs", "bad-input.md"))
	if err != nil {
		t.Fatal(err)
	}
	bracketed := regexp.MustCompile("`(pkg/[a-z0-9/]+)` \\(([^)]*)\\)")
	script := regexp.MustCompile("`([a-z-]+\\.txtar)`")
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	rows, named := 0, 0
	for line := range strings.Lines(string(raw)) {
		_, cell, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !ok || strings.HasPrefix(line, "| input") {
			continue
		}
		rows++
		before := named
		for _, m := range script.FindAllStringSubmatch(cell, -1) {
			named++
			if _, err := os.Stat(filepath.Join(root, "testdata", "script", m[1])); err != nil {
				t.Error(err)
			}
		}
		seek := func(dir, text string) {
			for _, m := range name.FindAllStringSubmatch(text, -1) {
				named++
				if !defines(t, filepath.Join(root, dir), m[1]) {
					t.Errorf("%s has no %s", dir, m[1])
				}
			}
		}
		for _, m := range bracketed.FindAllStringSubmatch(cell, -1) {
			seek(m[1], m[2])
		}
		seek("cmd/aifbench", bracketed.ReplaceAllString(cell, ""))
		if named == before {
			t.Errorf("a row without a test: %s", line)
		}
	}
	if rows < 30 {
		t.Errorf("only %d rows were read", rows)
	}
}

// defines tells whether a test file of the folder has the function.
func defines(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "func "+name+"(") {
			return true
		}
	}
	return false
}
