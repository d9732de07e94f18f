package main_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pkgInfo is what `go list -json` says of a package.
type pkgInfo struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
	// TestImports and XTestImports are those of tests beside and outside the package.
	TestImports, XTestImports []string
}

func packages(t *testing.T) []pkgInfo {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles,TestImports,XTestImports", "aifbench/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkgInfo
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p pkgInfo
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, "aifbench/cmd") || strings.HasPrefix(p.ImportPath, "aifbench/pkg") || p.ImportPath == "aifbench/templates" {
			all = append(all, p)
		}
	}
	if len(all) < 20 {
		t.Fatalf("go list saw %d packages", len(all))
	}
	return all
}

// room is the part of the tree a package belongs to: cmd, services, bench,
// metrics, slurm or templates.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, "aifbench/")
	if !ok {
		return ""
	}
	rest = strings.TrimPrefix(rest, "pkg/")
	word, _, _ := strings.Cut(rest, "/")
	return word
}

// TestImportsRunOneWay holds docs/design.md, section 3, against the code.
func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	allowed := map[string][]string{
		"cmd":       {"services", "bench", "metrics", "slurm", "templates"},
		"services":  {"services", "bench", "slurm", "metrics", "templates"},
		"bench":     {"bench", "metrics"},
		"metrics":   {"metrics", "templates"},
		"slurm":     {"slurm"},
		"templates": {},
	}
	only := map[string]string{ // import: the packages (by prefix) that alone may have it
		"os/exec":                            "aifbench/pkg/slurm/proc",
		"github.com/mholt/archiver/v4":       "aifbench/pkg/metrics/archive",
		"github.com/olekukonko/tablewriter":  "aifbench/pkg/metrics/table",
		"github.com/spf13/cobra":             "aifbench/cmd/aifbench",
		"go.yaml.in/yaml/v4":                 "aifbench/pkg/services/site",
		"mvdan.cc/sh/v3":                     "aifbench/pkg/slurm",
		"github.com/prometheus/common/model": "aifbench/pkg/metrics/promq",
		"encoding/csv":                       "aifbench/pkg/metrics/table",
		"archive":                            "aifbench/pkg/metrics/archive",
		"html/template":                      "aifbench/pkg/metrics/report",
		"os/signal":                          "aifbench/cmd/aifbench",
		"testing":                            "nobody",
	}
	// The sims stand in for servers in tests of the engines, from outside only.
	sims := map[string]string{"aifbench/pkg/bench/llm": "aifbench/pkg/services/sim/vllm", "aifbench/pkg/bench/vector": "aifbench/pkg/services/sim/chroma"}
	edges := 0
	for _, p := range packages(t) {
		from, ok := allowed[room(p.ImportPath)]
		if !ok {
			t.Errorf("%s is in no room of the design", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if to := room(imp); to != "" {
				edges++
				if !slices.Contains(from, to) {
					t.Errorf("%s imports %s: not an edge of the design", p.ImportPath, imp)
				}
			}
			if owner, ok := ownerOf(only, imp); ok && !strings.HasPrefix(p.ImportPath, owner) {
				t.Errorf("%s imports %s, which belongs to %s alone", p.ImportPath, imp, owner)
			}
		}
		for _, imp := range append(slices.Clone(p.TestImports), p.XTestImports...) {
			if to := room(imp); to == "" || slices.Contains(from, to) || room(p.ImportPath) == to || imp == p.ImportPath {
				continue
			}
			if imp != sims[p.ImportPath] || slices.Contains(p.TestImports, imp) {
				t.Errorf("tests of %s import %s: not an edge of the design", p.ImportPath, imp)
			}
		}
	}
	if edges < 50 {
		t.Errorf("only %d edges were looked at", edges)
	}
}

// ownerOf finds who alone may import a package, or one below it.
func ownerOf(only map[string]string, imp string) (string, bool) {
	for path, owner := range only {
		if imp == path || strings.HasPrefix(imp, path+"/") {
			return owner, true
		}
	}
	return "", false
}

// TestPackagesSayWhatTheyOwn: a comment for each package, no name that says
// nothing, no registration by side effect, no file beyond reading.
func TestPackagesSayWhatTheyOwn(t *testing.T) {
	t.Parallel()
	nothing := regexp.MustCompile(`^(util|utils|common|helper|helpers|types|misc)$`)
	hidden := regexp.MustCompile(`(?m)^func init\(\)`)
	process := regexp.MustCompile(`\bos\.(Args|Stdin|Stdout|Stderr|Exit|Getenv|LookupEnv|Environ)\b|\bfmt\.Print`)
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if nothing.MatchString(filepath.Base(p.ImportPath)) {
			t.Errorf("%s: a name that says nothing", p.ImportPath)
		}
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			where := p.ImportPath + "/" + name
			if nothing.MatchString(strings.TrimSuffix(name, ".go")) {
				t.Errorf("%s: a name that says nothing", where)
			}
			if hidden.Match(raw) {
				t.Errorf("%s: func init: say it in a list instead", where)
			}
			if n := strings.Count(string(raw), "\n"); n > 400 {
				t.Errorf("%s: %d lines: move a noun out", where, n)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), path, raw, parser.SkipObjectResolution); err != nil {
				t.Error(err)
			}
			outside := room(p.ImportPath) == "cmd" && (name == "main.go" || name == "app.go")
			if found := process.Find(raw); found != nil && !outside {
				t.Errorf("%s touches %s: only cmd's main and app do", where, found)
			}
		}
	}
}
