package table_test

import (
	"encoding/csv"
	"errors"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
)

func text(t *testing.T, tb *table.Table) string {
	t.Helper()
	var b strings.Builder
	if err := tb.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func csvText(t *testing.T, tb *table.Table) string {
	t.Helper()
	var b strings.Builder
	if err := tb.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The headers are those that the library's defaults rewrite; the layout was
// drawn by hand.
func TestText(t *testing.T) {
	t.Parallel()
	tb := table.New("ttft_p99.9", "req/s", "state", "empty")
	tb.Row("chroma", 1.5, "  indented", nil)
	tb.Row("a much longer name", 12345678, "x", nil)
	tb.Row("evil\x1b[31m\nline", -3, "日本", "")
	tb.Note("one note")
	want := strings.Join([]string{
		`ttft_p99.9             req/s  state       empty`,
		`chroma                   1.5    indented  -`,
		`a much longer name  12345678  x           -`,
		`evil\x1b[31m\nline        -3  日本`,
		`one note`, ``,
	}, "\n")
	if got := text(t, tb); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTextEmpty(t *testing.T) {
	t.Parallel()
	if got := text(t, table.New("run", "state")); got != "run  state\n" {
		t.Errorf("a table without rows is %q", got)
	}
	if got := text(t, &table.Table{}); got != "" {
		t.Errorf("a table without columns is %q", got)
	}
}

// Widths must not follow the locale: an ambiguous-width character counts one.
// The library looks at the environment once, so a new process is needed.
func TestTextLocale(t *testing.T) {
	t.Parallel()
	const mark = "AIFBENCH_TEST_LOCALE"
	if os.Getenv(mark) != "" {
		tb := table.New("a", "b")
		tb.Row("±±±", "x")
		if got := text(t, tb); got != "a    b\n±±±  x\n" {
			t.Errorf("got %q", got)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTextLocale$")
	cmd.Env = append(os.Environ(), mark+"=1", "LANG=zh_CN.UTF-8", "LC_ALL=zh_CN.UTF-8", "RUNEWIDTH_EASTASIAN=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a Chinese locale: %v\n%s", err, out)
	}
}

func TestTextIsStable(t *testing.T) {
	t.Parallel()
	tb := table.New("a", "b")
	for i := range 50 {
		tb.Row(strconv.Itoa(i), float64(i)/7)
	}
	first := text(t, tb)
	for range 3 {
		if text(t, tb) != first {
			t.Fatal("the same table gave other bytes")
		}
	}
	for line := range strings.Lines(first) {
		if strings.HasSuffix(line, " \n") {
			t.Fatalf("trailing blank in %q", line)
		}
	}
}

func TestRowTypes(t *testing.T) {
	t.Parallel()
	v := 2.5
	var none *float64
	tb := table.New("a", "b", "c", "d", "e", "f", "g", "h")
	tb.Row(true, int64(-7), &v, none, 1500*time.Millisecond, time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600)), errors.New("bad"), time.Time{})
	if got := csvText(t, tb); got != "a,b,c,d,e,f,g,h\ntrue,-7,2.5,,1.5,2026-01-02T02:04:05Z,bad,\n" {
		t.Errorf("got %q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("too many values did not panic")
		}
	}()
	table.New("a").Row(1, 2)
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", -1: "-1", 12345678: "12345678", 1234.5: "1234", 999.96: "1000", 0.1234567: "0.1235", 1.0 / 3: "0.3333",
		12.3456: "12.35", 123.456: "123.5", 0.00012345: "0.0001234", 0.00001: "1.000e-05", 1e15: "1.000e+15", -2.5: "-2.5", 5e-324: "4.941e-324",
	} {
		if got := table.Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got := table.Number(v); got == "" || strings.ContainsAny(got, "0123456789") {
			t.Errorf("Number(%v) = %q", v, got)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB", 1<<20 - 1: "1 MiB",
		38 << 30: "38 GiB", 1.5 * (1 << 40): "1.5 TiB", -2048: "-2 KiB", 1 << 62: "4 EiB",
	} {
		if got := table.Bytes(n); got != want {
			t.Errorf("Bytes(%v) = %q, want %q", n, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                      "",
		"plain ü 日本 €":          "plain ü 日本 €",
		"a\tb\nc\rd":            `a\tb\nc\rd`,
		"\x1b]0;title\x07":      `\x1b]0;title\x07`,
		"\x00\x7f":              `\x00\x7f`,
		"c1 \u009b31m":          `c1 \x9b31m`,
		"bidi \u202egnp.exe":    `bidi \u202egnp.exe`,
		"isolate \u2066x\u2069": `isolate \u2066x\u2069`,
		"zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`,
		"lines \u2028\u2029":    `lines \u2028\u2029`,
		"tag \U000e0041":        `tag \U000e0041`,
		"bad \xff\xc3":          `bad \xff\xc3`,
		"cut \xe2\x82":          `cut \xe2\x82`,
		"real \ufffd":           "real \ufffd",
	} {
		if got := table.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "a\x1b[0m", "\xff", "\u202e", "=1+1", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := table.Clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Fatalf("%q kept %U of %q", got, r, s)
			}
		}
		if again := table.Clean(got); again != got {
			t.Fatalf("not stable: %q then %q", got, again)
		}
	})
}

func TestNeutral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                        "",
		"text":                    "text",
		"a=b":                     "a=b",
		"=1+1":                    "'=1+1",
		"+cmd":                    "'+cmd",
		"-2+3":                    "'-2+3",
		"@SUM(A1)":                "'@SUM(A1)",
		"\t=1":                    "'\t=1",
		"\r=1":                    `'\r=1`,
		"\n=1":                    "'\n=1",
		"  =1":                    "'  =1",
		"\u00a0=1":                "'\u00a0=1",
		"＝1":                      "'＝1",
		"＠x":                      "'＠x",
		"-":                       "'-",
		"--5":                     "'--5",
		"-5":                      "-5",
		"+5":                      "+5",
		"-1.5e-3":                 "-1.5e-3",
		"-.5":                     "-.5",
		"-5 ":                     "'-5 ",
		"-0x10":                   "'-0x10",
		"-Inf":                    "'-Inf",
		"=HYPERLINK(\"http://\")": "'=HYPERLINK(\"http://\")",
		"\u200b=1":                `\u200b=1`,
		"nul\x00":                 `nul\x00`,
	} {
		if got := table.Neutral(in); got != want {
			t.Errorf("Neutral(%q) = %q, want %q", in, got, want)
		}
	}
}

// What a CSV reader gets back must be the neutral cell, whatever it holds.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "=1", "a,b", "\"q\"", "x\ny", "\r\n", "-5", "\xff", "\t@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tb := table.New("a", "b")
		tb.Row(s, "end")
		rows, err := csv.NewReader(strings.NewReader(csvText(t, tb))).ReadAll()
		if err != nil || len(rows) != 2 || len(rows[1]) != 2 {
			t.Fatalf("%q gave %v, %v", s, rows, err)
		}
		got := rows[1][0]
		if got != table.Neutral(s) {
			t.Fatalf("%q came back as %q, want %q", s, got, table.Neutral(s))
		}
		if got != "" && strings.ContainsAny(got[:1], "=+-@\t\r\n") {
			if _, err := strconv.ParseFloat(got, 64); err != nil && !errors.Is(err, strconv.ErrRange) {
				t.Fatalf("%q left a cell that runs: %q", s, got)
			}
		}
	})
}

func TestNumbersStayNumbersInCSV(t *testing.T) {
	t.Parallel()
	tb := table.New("v")
	for _, v := range []float64{-1.5, 1234567, 0.1, 1e300, -5e-324, 1 << 53} {
		tb.Row(v)
	}
	want := "v\n-1.5\n1234567\n0.1\n1e+300\n-5e-324\n9007199254740992\n"
	if got := csvText(t, tb); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func points(labels ...string) *result.Result {
	r := &result.Result{}
	for i, l := range labels {
		s := figure.Set{}
		s.Put("send_lateness_p50_ms", float64(i)+0.25, 1000, "nearest rank")
		s.WithCI("send_lateness_p50_ms", float64(i), float64(i)+1)
		if i == 0 {
			s.PutNull("send_lateness_p99_ms", "900 samples, quantile 0.99 needs 1000", 900)
		} else {
			s.Put("send_lateness_p99_ms", 99, 1000, "nearest rank")
		}
		s.Put("gpu_memory_used_max_bytes", 38<<30, 10, "max")
		r.Curve = append(r.Curve, result.Point{Label: l, Figures: s, Verdict: result.Verdict{Status: result.Valid}})
	}
	r.Fold()
	return r
}

func TestFiguresSingle(t *testing.T) {
	t.Parallel()
	got := text(t, table.Figures(points("c=1")))
	want := strings.Join([]string{
		`figure                      value  unit     n    ci95  how`,
		`send_lateness_p50_ms         0.25  ms    1000  0 .. 1  nearest rank`,
		`send_lateness_p99_ms            -  ms     900       -  null: 900 samples, quantile 0.99 needs 1000`,
		`gpu_memory_used_max_bytes  38 GiB          10       -  max`, ``,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFiguresCurve(t *testing.T) {
	t.Parallel()
	got := text(t, table.Figures(points("c=1", "c=8")))
	want := strings.Join([]string{
		`figure                     unit     c=1     c=8`,
		`send_lateness_p50_ms       ms      0.25    1.25`,
		`send_lateness_p99_ms       ms         -      99`,
		`gpu_memory_used_max_bytes        38 GiB  38 GiB`,
		`null, 900 samples, quantile 0.99 needs 1000: send_lateness_p99_ms at c=1`, ``,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFiguresLong(t *testing.T) {
	t.Parallel()
	r := points("=evil", "b")
	got := csvText(t, table.Long(r))
	want := strings.Join([]string{
		`point,figure,value,unit,n,ci95_low,ci95_high,how,reason`,
		`'=evil,send_lateness_p50_ms,0.25,ms,1000,0,1,nearest rank,`,
		`'=evil,send_lateness_p99_ms,,ms,900,,,not measured,"900 samples, quantile 0.99 needs 1000"`,
		`'=evil,gpu_memory_used_max_bytes,40802189312,bytes,10,,,max,`,
		`b,send_lateness_p50_ms,1.25,ms,1000,1,2,nearest rank,`,
		`b,send_lateness_p99_ms,99,ms,1000,,,nearest rank,`,
		`b,gpu_memory_used_max_bytes,40802189312,bytes,10,,,max,`, ``,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	many := points(strings.Split("abcdefghi", "")...)
	if tb := table.Figures(many); tb.Columns[0].Name != "point" || len(tb.Rows) != 27 {
		t.Errorf("nine points: first column %q, %d rows", tb.Columns[0].Name, len(tb.Rows))
	}
}

func BenchmarkText(b *testing.B) {
	tb := table.New("run", "state", "n")
	for i := range 1000 {
		tb.Row("vllm-20260102-030405-abcd", "RUNNING", i)
	}
	for b.Loop() {
		var out strings.Builder
		if err := tb.WriteText(&out); err != nil {
			b.Fatal(err)
		}
	}
}
