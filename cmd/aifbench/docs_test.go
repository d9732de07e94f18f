package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"mvdan.cc/sh/v3/syntax"

	"aifbench/pkg/metrics/archive"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/services/node"
	runs "aifbench/pkg/services/run"
)

func readDoc(t *testing.T, elem ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// docApp is a program that touches nothing: its tree is read, not run.
func docApp() *app {
	a := &app{streams: streams{out: io.Discard, err: io.Discard}}
	a.setLog()
	return a
}

// eachCommand visits the whole tree.
func eachCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, f)
	}
}

func TestDocsReadmeNamesEveryVerb(t *testing.T) {
	t.Parallel()
	text := readDoc(t, "README.md")
	section := between(t, text, "## Verbs", "\n## ")
	for _, c := range newRoot(docApp()).Commands() {
		if c.Hidden || !c.IsAvailableCommand() {
			continue
		}
		if !regexp.MustCompile("`" + c.Name() + "[ `]").MatchString(section) {
			t.Errorf("README's table of verbs lacks %q", c.Name())
		}
	}
	// And the other way round: no row names a verb that is gone.
	row := regexp.MustCompile("(?m)^\\| (`.*?) \\|(?: |$)")
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		for _, w := range regexp.MustCompile("`([a-z]+)").FindAllStringSubmatch(m[1], -1) {
			if c, _, err := newRoot(docApp()).Find(w[1:2]); w[1] != "help" && (err != nil || c.Name() != w[1]) {
				t.Errorf("README's table of verbs has %q, which is no verb", w[1])
			}
		}
	}
}

func TestDocsReadmeExitTable(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for _, e := range exitTable {
		fmt.Fprintf(&want, "| %d | %s | %s |\n", e.code, e.name, e.means)
	}
	section := between(t, readDoc(t, "README.md"), "## Exit codes", "\n## ")
	if got := between(t, section, "|---|---|---|\n", "\n\n") + "\n"; got != want.String() {
		t.Errorf("README's exit codes are not those of `help exit-codes`; write:\n%s", want.String())
	}
	order := make([]string, 0, len(precedence))
	for _, c := range precedence {
		if c == exitTerm {
			order[len(order)-1] += "/" + strconv.Itoa(c)
			continue
		}
		order = append(order, strconv.Itoa(c))
	}
	if line := strings.Join(order, ", "); !strings.Contains(section, line) {
		t.Errorf("README does not give the order of exit codes as %s", line)
	}
}

// figureName is what a word must look like to be held against the table.
var figureName = regexp.MustCompile(`\b[a-z][a-z0-9]*(?:_[a-z0-9]+)*_(?:ms|s|per_s|count|ratio|bytes|kiops|score)\b`)

func TestDocsFiguresExist(t *testing.T) {
	t.Parallel()
	texts := map[string]string{"README.md": readDoc(t, "README.md")}
	eachCommand(newRoot(docApp()), func(c *cobra.Command) { texts["help of "+c.CommandPath()] = c.Long + "\n" + c.Example })
	seen := 0
	for where, text := range texts {
		for _, name := range figureName.FindAllString(text, -1) {
			if name == "per_s" {
				continue // a unit
			}
			seen++
			if _, ok := figure.Lookup(name); !ok {
				t.Errorf("%s names %s, which is no figure", where, name)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d figures found in all texts: the pattern no longer finds them", seen)
	}
}

// Every line that a reader could type is held against the real commands.
func TestDocsCommandsParse(t *testing.T) {
	t.Parallel()
	lines := map[string][]string{}
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "docs/adding-a-service.md", "docs/design.md", "docs/formats.md", "docs/not-run-here.md", "docs/speed.md"} {
		lines[name] = typedIn(readDoc(t, filepath.FromSlash(name)))
	}
	eachCommand(newRoot(docApp()), func(c *cobra.Command) {
		for _, l := range strings.Split(c.Example, "\n") {
			if l = strings.TrimSpace(l); l != "" {
				lines["example of "+c.CommandPath()] = append(lines["example of "+c.CommandPath()], l)
			}
		}
		lines["help of "+c.CommandPath()] = typedIn(c.Long)
	})
	seen := 0
	for where, list := range lines {
		for _, line := range list {
			for _, args := range callsOf(t, line) {
				seen++
				if err := parseOnly(args); err != nil {
					t.Errorf("%s: `%s`: %v", where, line, err)
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands found in all texts: the pattern no longer finds them", seen)
	}
}

var (
	fenced = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	inline = regexp.MustCompile("`(aifbench [^`]+)`")
)

// typedIn finds commands of the program in code blocks and in backquotes.
func typedIn(text string) []string {
	var out []string
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		for _, l := range strings.Split(block[1], "\n") {
			if strings.HasPrefix(l, "aifbench ") || strings.Contains(l, "&& aifbench ") {
				out = append(out, l)
			}
		}
	}
	for _, m := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return slices.DeleteFunc(out, func(l string) bool { return strings.ContainsAny(l, "<\u2026") && strings.Contains(l, "<verb>") })
}

// callsOf reads a line as a shell does and returns the arguments of every call
// of the program in it.
func callsOf(t *testing.T, line string) [][]string {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "line")
	if err != nil {
		t.Errorf("`%s` is no shell: %v", line, err)
		return nil
	}
	var out [][]string
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		var words []string
		for _, w := range call.Args {
			words = append(words, plainWord(w))
		}
		if len(words) > 0 && words[0] == "aifbench" {
			out = append(out, words[1:])
		}
		return true
	})
	return out
}

// plainWord is a word without its quotes; expansions stay as they are typed.
func plainWord(w *syntax.Word) string {
	var b strings.Builder
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			b.WriteString(plainWord(&syntax.Word{Parts: p.Parts}))
		default:
			_ = syntax.NewPrinter().Print(&b, p) // into memory
		}
	}
	return b.String()
}

// parseOnly holds a line against the commands and flags without running it.
func parseOnly(args []string) error {
	root := newRoot(docApp())
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	words := cmd.Flags().Args()
	if slices.ContainsFunc(words, func(w string) bool { return w == "SERVICE" }) || cmd.HasSubCommands() && len(words) == 0 && cmd != root {
		return nil // a placeholder or a group stands for all its members
	}
	if cmd.HasSubCommands() {
		return fmt.Errorf("unknown word %q for %s", strings.Join(words, " "), cmd.CommandPath())
	}
	if cmd.Name() == "help" {
		_, left, err := root.Find(words)
		if err != nil || len(left) > 0 {
			return fmt.Errorf("no help for %q", words)
		}
		return nil
	}
	return cmd.ValidateArgs(words)
}

// A check that cannot fail proves nothing.
func TestDocsChecksFail(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"strat", "vllm"}, {"start", "vlm"}, {"start", "vllm", "--modle", "x"}, {"wait"}, {"wait", "a", "b"}, {"help", "exit-cods"}, {"check", "--until"}} {
		if parseOnly(args) == nil {
			t.Errorf("%q passes as a command", args)
		}
	}
	if got := typedIn("a `aifbench list` b\n```sh\nmake x && aifbench stop all\n```\n"); !slices.Equal(got, []string{"make x && aifbench stop all", "aifbench list"}) {
		t.Errorf("typed: %q", got)
	}
	if got := callsOf(t, `make build && aifbench bench vllm --gate 'ttft_p99_ms<=500' | aifbench list`); !reflect.DeepEqual(got, [][]string{{"bench", "vllm", "--gate", "ttft_p99_ms<=500"}, {"list"}}) {
		t.Errorf("calls: %q", got)
	}
}

// docs/formats.md names every field of every document and file.
func TestDocsFormatsNameEveryField(t *testing.T) {
	t.Parallel()
	text := readDoc(t, "docs", "formats.md")
	for _, doc := range []struct {
		section string
		values  []any
	}{
		{"## Documents on stdout", []any{
			startDoc{},
			planDoc{},
			checkDoc{},
			row{},
			stopDoc{},
			stopRow{},
			cleanDoc{},
			cleanRow{},
			showDoc{},
			logsDoc{},
			logFile{},
			saveDoc{},
			telemetryDoc{},
			telemetryRow{},
			reportDoc{},
			configDoc{},
			versionDoc{},
			detachedDoc{},
			errorDoc{},
			errorBody{},
		}},
		{"## The run directory", []any{
			runs.Intent{},
			runs.Param{},
			runs.Binary{},
			runs.Event{},
			runs.Endpoint{},
			runs.Door{},
			runs.Sentinel{},
			runs.Request{},
			runs.Answer{},
			runs.Holder{},
			spec{},
			progressDoc{},
			node.Plan{},
			node.Proc{},
			node.Probe{},
			node.Monitors{},
		}},
		{"## result.json", []any{result.Result{}, result.Verdict{}, result.Reason{}, result.Gate{}, result.Point{}, figure.Figure{}}},
		{"## Archive and MANIFEST.json", []any{archive.Manifest{}, archive.Entry{}}},
		{"## Metric summaries", []any{promq.Summary{}, promq.Row{}}},
	} {
		section := between(t, text, doc.section+"\n", "\n## ")
		for _, v := range doc.values {
			typ := reflect.TypeOf(v)
			for i := range typ.NumField() {
				name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				if name == "" || name == "-" {
					continue
				}
				if !regexp.MustCompile("[`\"]" + name + "[`\"]").MatchString(section) {
					t.Errorf("docs/formats.md, %q: %s.%s is missing: `%s`", doc.section, typ.Name(), typ.Field(i).Name, name)
				}
			}
		}
	}
}

// The documents must not send a reader to a place that is not there.
func TestDocsPathsExist(t *testing.T) {
	t.Parallel()
	path := regexp.MustCompile("[`(]((?:docs|pkg|cmd|templates|testdata)/[A-Za-z0-9._/-]+)[`)]")
	names, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, filepath.Join("..", "..", "README.md"), filepath.Join("..", "..", "CONTRIBUTING.md"))
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range path.FindAllStringSubmatch(string(raw), -1) {
			if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", filepath.Base(name), m[1])
			}
		}
		for _, bad := range []string{"/work" + "/", "/root" + "/"} {
			if bytes.Contains(raw, []byte(bad)) {
				t.Errorf("%s names a path of one machine: %s", filepath.Base(name), bad)
			}
		}
	}
}

func TestDocsHelpExitCodes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := run(context.Background(), []string{"help", "exit-codes"}, environment{}, streams{in: strings.NewReader(""), out: &out, err: io.Discard}); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	for _, e := range exitTable {
		if !strings.Contains(out.String(), fmt.Sprintf("%3d  %-14s %s\n", e.code, e.name, e.means)) {
			t.Errorf("help exit-codes lacks %d %s", e.code, e.name)
		}
	}
}

// between cuts text after from up to the next to, or to its end.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, from)
	if !ok {
		t.Fatalf("no %q in the text", from)
	}
	before, _, _ := strings.Cut(after, to)
	return before
}
