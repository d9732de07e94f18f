package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/report"
	"aifbench/pkg/metrics/result"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sample(points int) *result.Result {
	r := &result.Result{
		Kind: "bench", Service: "vllm", Engine: "sim", Run: "vllm-20260102-030405-abcd",
		Environment: map[string]any{"cpus": 2}, Config: json.RawMessage(`{"concurrency":[1,8]}`),
		Warnings: []result.Warning{{Code: "no_cpu_set", Message: "no CPUs set apart"}},
	}
	for i := range points {
		s := figure.Set{}
		s.Put("achieved_rate_per_s", float64(100*(i+1)), 1000, "count over window")
		s.Put("send_lateness_p50_ms", float64(i+1), 1000, "nearest rank")
		if i == 0 {
			s.PutNull("send_lateness_p99_ms", "900 samples, quantile 0.99 needs 1000", 900)
		} else {
			s.Put("send_lateness_p99_ms", float64(10*i), 1000, "nearest rank")
		}
		r.Curve = append(r.Curve, result.Point{
			Label: fmt.Sprintf("c=%d", 1<<i), Figures: s, Verdict: result.Verdict{Status: result.Valid},
			Window: result.Window{Start: at.Add(time.Duration(i) * time.Minute), End: at.Add(time.Duration(i+1) * time.Minute), DurationS: 60},
			Errors: map[string]int64{"timeout": int64(i), "zero": 0},
			Phases: []result.Phase{{Name: "measure", StartS: 0, EndS: 60, Ops: 100, Bytes: 1 << 20, Status: "ok"}},
		})
	}
	r.Fold()
	limit := 500.0
	r.Gates = []result.Gate{
		{Expr: "send_lateness_p50_ms<=500", Figure: "send_lateness_p50_ms", Op: "<=", Limit: limit, Value: &limit, Passed: true, Message: "holds"},
		{Expr: "send_lateness_p99_ms<=500", Figure: "send_lateness_p99_ms", Op: "<=", Limit: limit, Message: "null"},
	}
	return r
}

// heat is a temperature that rises one degree a minute, with a hole of 10 s.
func heat() []report.Series {
	var p []report.Point
	for i := range 60 {
		if i < 20 || i >= 30 {
			p = append(p, report.Point{At: at.Add(time.Duration(i) * time.Second), Value: 50 + float64(i)/60})
		}
	}
	return []report.Series{{Chart: "GPU temperature", Name: "n1 GPU 0", Unit: "celsius", Points: p}}
}

func page(t *testing.T, r *result.Result, s []report.Series) string {
	t.Helper()
	var b strings.Builder
	if err := report.HTML(&b, r, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	got := page(t, sample(2), heat())
	path := filepath.Join("testdata", "curve.html")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("page differs from %s (go test -update rewrites it):\n%s", path, diff)
	}
	if again := page(t, sample(2), heat()); again != got {
		t.Error("the same result gave other bytes")
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	got := page(t, sample(2), heat())
	for _, part := range []string{
		`<span class="verdict valid">valid</span>`, "vllm-20260102-030405-abcd", "900 samples, quantile 0.99 needs 1000",
		"send_lateness by point", "achieved_rate_per_s by point", "passed", "inconclusive", "timeout: 1", "no CPUs set apart",
		"1 MiB", "slope 1 celsius per minute", "min 50, mean", "(50 samples)", "Median of actual start",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	if strings.Contains(got, "zero: 0") {
		t.Error("an error class without errors is shown")
	}
	// The hole of ten samples breaks the line in two.
	if n := strings.Count(got, "<polyline"); n != 1+1+2 {
		t.Errorf("%d polylines, want one a curve figure with two values and two for the broken line", n)
	}
	for _, r := range []*result.Result{sample(0), sample(1), sample(12)} {
		if got := page(t, r, nil); !strings.Contains(got, "</html>") {
			t.Error("half a page")
		}
	}
}

// Nothing on the page may be fetched or run.
func TestOffline(t *testing.T) {
	t.Parallel()
	got := page(t, sample(3), heat())
	for _, bad := range []string{"<script", "src=", "href=", "@import", "url(", "javascript:"} {
		if strings.Contains(strings.ToLower(got), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, u := range regexp.MustCompile(`https?://[^"' <]+`).FindAllString(got, -1) {
		if u != "http://www.w3.org/2000/svg" {
			t.Errorf("the page names %s", u)
		}
	}
	if !strings.Contains(got, "default-src 'none'") {
		t.Error("no content security policy")
	}
}

// Every place that foreign text reaches, with every kind of hostile text.
func TestHostile(t *testing.T) {
	t.Parallel()
	evil := "</script><script>alert(1)</script></title></pre></svg>\"'><img src=x onerror=alert(1)>\x1b[31m\u202e\x00{{.}}"
	r := sample(2)
	r.Service, r.Engine, r.Run, r.Target, r.Kind = evil, evil, evil, evil, evil
	r.Environment = map[string]any{evil: evil}
	conf, err := json.Marshal(map[string]string{evil: evil})
	if err != nil {
		t.Fatal(err)
	}
	r.Config = conf
	r.Warnings = []result.Warning{{Code: evil, Message: evil}}
	r.Verdict.Status = result.Status(evil)
	r.Verdict.Reasons = []result.Reason{{Rule: evil, Severity: result.Severity(evil), Message: evil, Evidence: evil}}
	r.Gates = []result.Gate{{Expr: evil, Point: evil, Message: evil}}
	for i := range r.Curve {
		p := &r.Curve[i]
		p.Label = evil
		p.Verdict.Status = result.Status(evil)
		p.Errors = map[string]int64{evil: 1}
		p.Phases = []result.Phase{{Name: evil, Status: evil, Message: evil}}
		f := p.Figures["send_lateness_p99_ms"]
		f.Reason, f.How, f.Unit = evil, evil, evil
		p.Figures["send_lateness_p99_ms"] = f
	}
	series := heat()
	series[0].Name, series[0].Chart, series[0].Unit = evil, evil, evil
	got := page(t, r, series)
	for _, bad := range []string{"<script", "<img", "</svg>\"", "\x1b", "\u202e", "\x00"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q got through", bad)
		}
	}
	if n := strings.Count(got, "onerror=alert(1)&gt;"); n < 20 {
		t.Errorf("only %d places were tried; is the text shown at all?", n)
	}
	wellFormed(t, got)
}

// wellFormed reads the page as loose XML: a tag that foreign text closed or
// opened would not balance.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	depth := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		switch tok.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
	if depth != 0 {
		t.Errorf("%d elements are left open", depth)
	}
}

func TestOddSeries(t *testing.T) {
	t.Parallel()
	one := []report.Point{{At: at, Value: 5}}
	nan := []report.Point{{At: at, Value: math.NaN()}, {At: at.Add(time.Second), Value: math.Inf(1)}}
	huge := []report.Point{{At: at, Value: -1e308}, {At: at.Add(time.Second), Value: 1e308}}
	flat := []report.Point{{At: at, Value: 0}, {At: at, Value: 0}, {At: at.Add(time.Second), Value: 0}}
	got := page(t, sample(1), []report.Series{
		{Chart: "one", Name: "a", Points: one},
		{Chart: "nan", Name: "b", Points: nan},
		{Chart: "none", Name: "c"},
		{Chart: "huge", Name: "d", Points: huge},
		{Chart: "flat", Name: "e", Points: flat},
	})
	if strings.Contains(got, ">nan<") || strings.Contains(got, ">none<") {
		t.Error("a chart without values is drawn")
	}
	drawing := got[strings.Index(got, "Telemetry"):]
	for _, bad := range []string{"NaN", "Inf", "e+"} {
		for _, m := range regexp.MustCompile(`(points|cx|cy|x|y|x1|y1|x2|y2|width)="[^"]*"`).FindAllString(drawing, -1) {
			if strings.Contains(m, bad) {
				t.Errorf("coordinate %s", m)
			}
		}
	}
	r := sample(1)
	r.Window = result.Window{}
	wellFormed(t, page(t, r, heat()))
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWriteError(t *testing.T) {
	t.Parallel()
	if err := report.HTML(failing{}, sample(1), nil); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("got %v", err)
	}
}

// A real browser parses the page: nothing is asked from the network, no error
// is reported, and the drawing is in the document.
func TestBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIP-LAB: no chromium on PATH; the page was not opened in a real browser")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "page.html")
	if err := os.WriteFile(path, []byte(page(t, sample(3), heat())), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+filepath.Join(dir, "profile"), "--dump-dom", "file://"+path)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, errs.String())
	}
	if n := strings.Count(out.String(), "<polyline"); n != 2+1+2 {
		t.Errorf("the browser sees %d polylines", n)
	}
	if strings.Contains(errs.String(), "CONSOLE") {
		t.Errorf("the browser complains:\n%s", errs.String())
	}
}
