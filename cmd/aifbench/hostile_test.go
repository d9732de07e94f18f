package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

// hostile are values nobody should be able to hurt a script with.
var hostile = []string{
	`a'b"c`, "$(touch PWNED)", "`touch PWNED`", "${PATH}", "$HOME", "a\nb", "a\n#SBATCH --wrap=evil", "größe 東京 🚀", "a b  c", "-rf", "--api-key", "%j%x%%", `back\slash\`,
	"*?[x]{a,b}~", "; touch PWNED #", "&& false", "| cat > x", "<(id)", "!!", "\x1b[31m", "a\tb", "a\rb", "#c", "=", "a,b:c", "</script>", "=1+1", "{{.Bin}}", `'`, `"`, `\`, "a\x7fb", "\xff\xfe",
}

// dryRun is `start SERVICE ARGS --dry-run -o json` in this process.
func dryRun(t *testing.T, self string, vars []string, args ...string) (planDoc, string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := osEnv()
	env.self, env.cwd = self, filepath.Dir(self)
	env.vars = append([]string{"PATH=/usr/bin:/bin", "AIFBENCH_SITE=slurm", "AIFBENCH_HOME=" + filepath.Join(filepath.Dir(self), "home")}, vars...)
	code := run(context.Background(), append(append([]string{"start"}, args...), "--dry-run", "-o", "json"), env, streams{strings.NewReader(""), &out, &errs})
	var doc planDoc
	if code == exitOK {
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
	return doc, errs.String(), code
}

// shape is what a shell would do with the scripts of a plan: how many commands
// and substitutions, and the words that are known before it runs.
type shape struct {
	nodes      map[string]int
	words      []string
	directives []string
}

func shapeOf(t *testing.T, what string, doc planDoc) shape {
	t.Helper()
	s := shape{nodes: map[string]int{}}
	names := sortedKeys(doc.Scripts)
	for _, name := range append([]string{""}, names...) {
		text := doc.Script
		if name != "" {
			text = doc.Scripts[name]
		}
		if err := slurm.Lint([]byte(text)); err != nil {
			t.Errorf("%s: %s: %v", what, name, err)
		}
		file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), name)
		if err != nil {
			t.Errorf("%s: %s does not parse: %v\n%s", what, name, err, text)
			continue
		}
		syntax.Walk(file, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Stmt, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.ParamExp, *syntax.Redirect, *syntax.ArithmExp, *syntax.ExtGlob:
				s.nodes[fmt.Sprintf("%s %T", name, n)]++
			case *syntax.Word:
				s.nodes[name+" words"]++
				s.words = append(s.words, literal(n.Parts))
			}
			return true
		})
		got, err := slurm.Directives([]byte(text))
		if err != nil && name == "" {
			t.Errorf("%s: directives: %v", what, err)
		}
		s.directives = append(s.directives, got...)
	}
	return s
}

// literal is the text of a word as the shell would have it, expansions as NUL.
func literal(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(unescaped(p.Value))
		case *syntax.SglQuoted:
			text := p.Value
			if p.Dollar {
				var err error
				if text, _, err = expand.Format(&expand.Config{}, p.Value, nil); err != nil {
					text = "\x00"
				}
			}
			b.WriteString(text)
		case *syntax.DblQuoted:
			b.WriteString(literal(p.Parts))
		default:
			b.WriteByte(0)
		}
	}
	return b.String()
}

func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// carried counts the words and directives that hold a value.
func (s shape) carried(v string) (words, directives int) {
	for _, w := range s.words {
		if strings.Contains(w, v) {
			words++
		}
	}
	for _, d := range s.directives {
		if strings.Contains(d, v) || strings.Contains(d, slurm.EscapePath(v)) {
			directives++
		}
	}
	return words, directives
}

// TestHostileValueOfEveryFlag: whatever the value of whichever string flag of
// whichever service, the scripts are the same commands as with a harmless
// value, with the value in the same words; or it is refused with exit 2.
func TestHostileValueOfEveryFlag(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self := filepath.Join(dir, "self")
	for path, mode := range map[string]os.FileMode{self: 0o700, filepath.Join(dir, "v.sif"): 0o600} {
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	// What a flag needs beside it, by service; "" is for all the others.
	needs := map[string]map[string][]string{
		"vllm":     {"": {"--model", "m"}, "model": nil, "image": {"--model", "m"}, "bind": {"--model", "m", "--image", "v.sif"}, "engine": {"--model", "m"}},
		"chroma":   {"": nil, "bind": {"--image", "v.sif"}},
		"lustre":   {"": nil},
		"monitors": {"": {"--prometheus", "/bin/true"}, "prometheus": nil, "grafana-home": {"--prometheus", "/bin/true", "--grafana", "/bin/true"}},
	}
	pathish := []string{"image", "venv", "model", "hf-token-file", "path", "persist-dir", "prometheus", "collector", "grafana", "grafana-home", "grafana-image", "vllm-command", "chroma-command", "hf-home", "home"}
	// place makes what a path flag may name: a directory with a command inside.
	place := func(name, flag string) (string, bool) {
		path := filepath.Join(dir, "at", flag, name)
		if strings.Contains(name, "/") || strings.Contains(name, "\x00") {
			return "", false
		}
		if flag == "hf-token-file" || flag == "image" || flag == "prometheus" || flag == "collector" || flag == "grafana" || flag == "grafana-image" {
			if os.MkdirAll(filepath.Dir(path), 0o700) != nil || os.WriteFile(path, []byte("x"), 0o600) != nil {
				return "", false
			}
			return path, true
		}
		if os.MkdirAll(filepath.Join(path, "bin"), 0o700) != nil {
			return "", false
		}
		for _, c := range []string{"vllm", "chroma"} {
			if os.WriteFile(filepath.Join(path, "bin", c), []byte("x"), 0o700) != nil {
				return "", false
			}
		}
		return path, true
	}
	root := newRoot(docApp())
	start, _, err := root.Find([]string{"start"})
	if err != nil {
		t.Fatal(err)
	}
	flags, reached, refused := 0, 0, 0
	try := func(service, what string, vars func(string) []string, args func(string) []string, value func(string) (string, bool)) {
		benign, ok := value("harmless7")
		if !ok {
			t.Fatalf("%s %s: no harmless value", service, what)
		}
		plain, _, plainCode := dryRun(t, self, vars(benign), args(benign)...)
		var want shape
		if plainCode == exitOK {
			want = shapeOf(t, what, plain)
		}
		words, directives := want.carried("harmless7")
		for _, h := range hostile {
			v, ok := value(h)
			if !ok {
				continue
			}
			doc, errs, code := dryRun(t, self, vars(v), args(v)...)
			name := fmt.Sprintf("%s %s %q", service, what, v)
			if code == exitUsage {
				refused++
				if strings.ContainsAny(errs, "\x1b\x7f\r") {
					t.Errorf("%s: raw control characters on stderr: %q", name, errs)
				}
				continue
			}
			if code != exitOK {
				t.Errorf("%s: exit %d: %s", name, code, errs)
				continue
			}
			if plainCode != exitOK {
				t.Errorf("%s is taken, a harmless value is refused", name)
				continue
			}
			got := shapeOf(t, name, doc)
			for _, n := range append(sortedKeys(want.nodes), sortedKeys(got.nodes)...) {
				if got.nodes[n] != want.nodes[n] {
					t.Errorf("%s changes the script: %d %s, with a harmless value %d", name, got.nodes[n], n, want.nodes[n])
				}
			}
			if len(got.directives) != len(want.directives) {
				t.Errorf("%s: %d directives, with a harmless value %d: %q", name, len(got.directives), len(want.directives), got.directives)
			}
			w, d := got.carried(h)
			if w < words || d < directives {
				t.Errorf("%s is in %d words and %d directives, a harmless value in %d and %d", name, w, d, words, directives)
			}
			if words+directives > 0 {
				reached++
			}
		}
	}
	none := func(string) []string { return nil }
	asIs := func(v string) (string, bool) { return v, true }
	for _, c := range start.Commands() {
		service := c.Name()
		eachStringFlag(c, func(f *pflag.Flag) {
			flags++
			more, ok := needs[service][f.Name]
			if !ok {
				more = needs[service][""]
			}
			args := func(v string) []string { return append([]string{service, "--" + f.Name + "=" + v}, more...) }
			if f.Name == "env" {
				args = func(v string) []string { return append([]string{service, "--env=X=" + v}, more...) }
			}
			try(service, "--"+f.Name, none, args, asIs)
			if slices.Contains(pathish, f.Name) {
				try(service, "--"+f.Name+" (a path)", none, args, func(v string) (string, bool) { return place(v, f.Name) })
			}
		})
	}
	// The home of all runs, and what comes from the site; lists split at commas
	// and lines.
	oneOf := func(v string) (string, bool) { return v, !strings.ContainsAny(v, ",\n") }
	for _, service := range []string{"vllm", "lustre"} {
		args := func(string) []string { return append([]string{service}, needs[service][""]...) }
		try(service, "AIFBENCH_HOME", func(v string) []string { return []string{"AIFBENCH_HOME=" + v} }, args, func(v string) (string, bool) { return place(v, "home") })
		for _, key := range site.Keys() {
			if key == "setup" || key == "extra_sbatch" || key == "poll_min" {
				continue // shell lines and options of the site, words as they are
			}
			try(service, "AIFBENCH_"+strings.ToUpper(key), func(v string) []string { return []string{"AIFBENCH_" + strings.ToUpper(key) + "=" + v} }, args, asIs)
		}
		with := func(string) []string {
			return append([]string{service, "--image", "v.sif"}, needs[service][""]...)
		}
		if service == "vllm" {
			for _, key := range []string{"container", "container_options", "binds", "hf_home", "node_local"} {
				try(service, "AIFBENCH_"+strings.ToUpper(key)+" of a container", func(v string) []string { return []string{"AIFBENCH_" + strings.ToUpper(key) + "=" + v} }, with, oneOf)
			}
		}
	}
	if flags < 40 || reached < 400 || refused < 100 {
		t.Errorf("%d flags, %d values in scripts, %d refused: too few to mean anything", flags, reached, refused)
	}
	t.Logf("%d flags; %d hostile values reached a script unharmed, %d were refused", flags, reached, refused)
	if _, err := os.Stat("PWNED"); err == nil {
		t.Error("a value was run")
	}
}

func eachStringFlag(c *cobra.Command, f func(*pflag.Flag)) {
	c.LocalNonPersistentFlags().VisitAll(func(fl *pflag.Flag) {
		if typ := fl.Value.Type(); typ == "string" || typ == "stringArray" || typ == "stringSlice" {
			f(fl)
		}
	})
}
