package slurm_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

func itoa(n int) string { return strconv.Itoa(n) }

// hostile are values that have broken somebody's script.
var hostile = []string{
	"", " ", "a b", "it's", `say "hi"`, "$(touch /tmp/x)", "`id`", "$HOME", "${X}", "a;b", "a|b", "a&b", "<in", ">out",
	"*", "?", "[a]", "{a,b}", "~", "~root", "!x", "#no", "a#b", "-n", "--help", "=x", "A=b", "\\", "a\\", "\\n", "\n", "a\nb\n",
	"\r", "a\r\nb", "\t", "\x01", "\x7f", "caf\u00e9", "\u65e5\u672c", "\u00ad", "\u202e", "\U0001f600", "\xff\xfe", "\u0085", "%j", "$'x'", "if", "done", "!", "((", "^x",
}

// bashWords has bash print its words, each ended by NUL.
func bashWords(t testing.TB, locale, words string) []string {
	t.Helper()
	out, err := proc.Exec{}.Run(t.Context(), proc.Cmd{
		Name: "bash", Args: []string{"-c", "printf '%s\\0' " + words},
		Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=" + locale, "HOME=/root"},
	})
	if err != nil || out.Code != 0 {
		t.Fatalf("bash %q: %d %s %v", words, out.Code, out.Stderr, err)
	}
	return strings.Split(strings.TrimSuffix(string(out.Stdout), "\x00"), "\x00")
}

func TestQuoteRoundTrip(t *testing.T) {
	t.Parallel()
	var words []string
	for _, v := range hostile {
		q, err := slurm.Quote(v)
		if err != nil {
			t.Fatalf("%q: %v", v, err)
		}
		if strings.Contains(q, "\r") {
			t.Errorf("%q: a raw carriage return reaches sbatch", v)
		}
		words = append(words, q)
	}
	for _, locale := range []string{"C", "C.UTF-8"} {
		if diff := cmp.Diff(hostile, bashWords(t, locale, strings.Join(words, " "))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", locale, diff)
		}
	}
	if _, err := slurm.Quote("a\x00b"); err == nil {
		t.Error("NUL was quoted")
	}
}

func TestQuoteProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		// Many words a shell: starting bash costs more than quoting.
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("'\"\\$`!#~ \t\n*ab=-{}[]()"))),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		want := rapid.SliceOfN(rapid.Map(text, func(s string) string { return strings.ReplaceAll(s, "\x00", "") }), 1, 30).Draw(r, "words")
		var quoted []string
		for _, w := range want {
			q, err := slurm.Quote(w)
			if err != nil {
				r.Fatal(err)
			}
			quoted = append(quoted, q)
		}
		if diff := cmp.Diff(want, bashWords(t, "C", strings.Join(quoted, " "))); diff != "" {
			r.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestRender(t *testing.T) {
	t.Parallel()
	const text = "#!/bin/bash\n#SBATCH --comment={{.Comment | directive}}\nexec {{.Argv | sh}} {{.N | sh}} {{.On | sh}}\n"
	got, err := slurm.Render("x", text, map[string]any{
		"Comment": "a b", "Argv": []string{"serve", "$(rm -rf /)", "a b"}, "N": 7, "On": true,
	})
	want := "#!/bin/bash\n#SBATCH --comment=\"a b\"\nexec serve '$(rm -rf /)' 'a b' 7 true\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if err := slurm.Lint(got); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		text string
		data any
	}{
		"missing key":          {"{{.Nope | sh}}", map[string]any{}},
		"NUL":                  {"{{.X | sh}}", map[string]any{"X": "\x00"}},
		"NUL in a list":        {"{{.X | sh}}", map[string]any{"X": []string{"\x00"}}},
		"newline in directive": {"{{.X | directive}}", map[string]any{"X": "a\n#SBATCH --x"}},
		"a map has no word":    {"{{.X | sh}}", map[string]any{"X": map[string]int{"a": 1}}},
		"nil has no word":      {"{{.X | sh}}", map[string]any{"X": nil}},
		"broken template":      {"{{.X", nil},
	} {
		if got, err := slurm.Render("x", tt.text, tt.data); err == nil {
			t.Errorf("%s: rendered %q", name, got)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	const head = "#!/bin/bash\n#SBATCH --nodes=1\n"
	for _, tt := range []struct {
		name, script, rule string
		line               int
	}{
		{"good", head + "set -euo pipefail\ntrap 'exit 75' TERM\nX=$1\nexec run \"$X\" \"${A[@]}\" $# $? \"$(date)\"\n", "", 0},
		{"only a head", head, "", 0},
		{"comment between", "#!/bin/bash\n# about\n\n#SBATCH --nodes=1\ntrue\n", "", 0},
		{"shebang", "set -e\n", "shebang", 1},
		{"empty", "", "shebang", 1},
		{"carriage return", head + "true\r\n", "cr", 3},
		{"NUL", head + "true\x00\n", "nul", 3},
		{"size", head + strings.Repeat("#", 4<<20), "size", 0},
		{"syntax", head + "if true; then\n", "syntax", 3},
		{"unclosed quote", head + "echo 'a\n", "syntax", 3},
		{"late directive", head + "true\n#SBATCH --time=1\n", "late_directive", 4},
		{"late directive inside a block", head + "if true; then\n#SBATCH --time=1\ntrue\nfi\n", "late_directive", 4},
		{"late directive on the line", head + "true #SBATCH --time=1\n", "late_directive", 3},
		{"indented directive", "#!/bin/bash\n  #SBATCH --time=1\ntrue\n", "late_directive", 2},
		{"directive in a here document is text", head + "cat <<'EOF'\n#SBATCH --x\nEOF\n", "", 0},
		{"unquoted", head + "run $X\n", "unquoted", 3},
		{"unquoted inside a word", head + "run\nrun --a=$X\n", "unquoted", 4},
		{"unquoted list", head + "run ${A[@]}\n", "unquoted", 3},
		{"unquoted command", head + "run $(date)\n", "unquoted", 3},
		{"unquoted in a function", head + "f() {\n\trun $X\n}\n", "unquoted", 4},
		{"unquoted in a command's substitution", head + "X=\"$(run $Y)\"\n", "unquoted", 3},
	} {
		err := slurm.Lint([]byte(tt.script))
		if tt.rule == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		le, ok := errors.AsType[*slurm.LintError](err)
		if !ok || le.Rule != tt.rule || le.Line != tt.line {
			t.Errorf("%s: %v, want rule %s in line %d", tt.name, err, tt.rule, tt.line)
		}
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	h := slurm.Header{
		JobName: "aifb-x-1a2b", Comment: "aifbench:run", Partition: "gpu", Account: "p200", QOS: "default",
		Constraint: "a100&nvme", Reservation: "r", Dependency: "afterok:5", Time: 90 * time.Minute, Nodes: 2,
		NTasksPerNode: 4, CPUsPerTask: 8, Mem: "0", GPUs: 4, GPUType: "a100", Exclusive: true,
		Output: "/home/o'brien/my runs/#1 100%%/%j.out", Chdir: `/data/a"b\c`, Export: "NONE", Extra: []string{"--hint=nomultithread", "--overcommit"},
	}
	got, err := h.Lines()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"#SBATCH --job-name=aifb-x-1a2b", "#SBATCH --comment=aifbench:run", "#SBATCH --partition=gpu",
		"#SBATCH --account=p200", "#SBATCH --qos=default", `#SBATCH --constraint="a100&nvme"`, "#SBATCH --reservation=r",
		"#SBATCH --dependency=afterok:5", "#SBATCH --kill-on-invalid-dep=yes", "#SBATCH --time=01:30:00", "#SBATCH --nodes=2",
		"#SBATCH --ntasks-per-node=4", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=0", "#SBATCH --gpus-per-node=a100:4",
		"#SBATCH --exclusive", `#SBATCH --output="/home/o'brien/my runs/#1 100%%/%j.out"`, `#SBATCH --chdir="/data/a\"b\\c"`,
		"#SBATCH --signal=B:TERM@120", "#SBATCH --no-requeue", "#SBATCH --export=NONE", "#SBATCH --hint=nomultithread", "#SBATCH --overcommit",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What Slurm reads back is what was meant.
	options, err := h.Options()
	if err != nil {
		t.Fatal(err)
	}
	back, err := slurm.Directives([]byte("#!/bin/bash\n" + strings.Join(got, "\n") + "\ntrue\n#SBATCH --late\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(options, back); diff != "" {
		t.Errorf("(-options +directives):\n%s", diff)
	}
	least, err := slurm.Header{Output: "/x"}.Lines()
	if diff := cmp.Diff([]string{"#SBATCH --output=/x", "#SBATCH --signal=B:TERM@120", "#SBATCH --no-requeue"}, least); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for style, want := range map[slurm.GPUStyle]string{"gres": "--gres=gpu:2", "gpus-per-node": "--gpus-per-node=2", "none": ""} {
		options, err := slurm.Header{Output: "/x", GPUs: 2, GPUStyle: style}.Options()
		if err != nil || want != "" && options[0] != want || want == "" && len(options) != 3 {
			t.Errorf("%s: %q, %v", style, options, err)
		}
	}
}

func TestHeaderRefuses(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]slurm.Header{
		"no output":       {},
		"relative output": {Output: "x.out"},
		"backslash":       {Output: `/a\b`},
		"job name":        {Output: "/x", JobName: "a b"},
		"newline":         {Output: "/x", Comment: "a\n#SBATCH --uid=0"},
		"control":         {Output: "/x", Account: "a\x1b[31m"},
		"not UTF-8":       {Output: "/x", Account: "\xff"},
		"too long":        {Output: "/x", Comment: strings.Repeat("x", 5000)},
		"mem":             {Output: "/x", Mem: "lots"},
		"nodes":           {Output: "/x", Nodes: -1},
		"time":            {Output: "/x", Time: -1},
		"gpus":            {Output: "/x", GPUs: -1},
		"gpu style":       {Output: "/x", GPUs: 1, GPUStyle: "magic"},
		"signal":          {Output: "/x", Signal: "B:TERM 120"},
		"extra":           {Output: "/x", Extra: []string{"-p gpu"}},
		"extra newline":   {Output: "/x", Extra: []string{"--comment=a\nb"}},
		"extra identity":  {Output: "/x", Extra: []string{"--job-name=other"}},
		"extra array":     {Output: "/x", Extra: []string{"--array=0-3"}},
	} {
		if got, err := h.Lines(); err == nil {
			t.Errorf("%s: accepted as %q", name, got)
		}
	}
}

func TestDirectiveProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		value := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("'\"\\# \u00e9$=%a")))).Draw(r, "value")
		quoted, err := slurm.Directive(value)
		if err != nil {
			return // control characters
		}
		got, err := slurm.Directives([]byte("#!/bin/bash\n#SBATCH --comment=" + quoted + "\n"))
		if err != nil || len(got) != 1 || got[0] != "--comment="+value {
			r.Fatalf("%q became %q, %v", value, got, err)
		}
	})
}

func TestEscapePath(t *testing.T) {
	t.Parallel()
	if got := slurm.EscapePath("/a/100%/%j"); got != "/a/100%%/%%j" {
		t.Errorf("got %q", got)
	}
}
