package result_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

func sample() *result.Result {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := point("c=1 </script> \x1b", 12.5)
	p.Window = result.Window{Start: at, End: at.Add(10 * time.Second), DurationS: 10}
	r := &result.Result{Kind: "bench", Service: "vllm", Engine: "sim", Run: "vllm-x", Curve: []result.Point{p}}
	r.Fold()
	return r
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), result.FileName)
	want := sample()
	if err := result.Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := result.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	a, err := result.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := result.Encode(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) || !bytes.HasSuffix(a, []byte("}\n")) {
		t.Error("equal results are not equal bytes")
	}
}

func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()
	data, err := result.Encode(&result.Result{Verdict: result.Verdict{Status: result.Valid}, Curve: []result.Point{{Verdict: result.Verdict{Status: result.Valid}}}})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("null")) {
		t.Errorf("null in an empty result:\n%s", data)
	}
}

// A result that nobody judged is kept, as an invalid one.
func TestUnjudged(t *testing.T) {
	t.Parallel()
	data, err := result.Encode(&result.Result{Curve: []result.Point{{}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := result.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Status != result.Invalid || r.Curve[0].Verdict.Status != result.Invalid || len(r.Verdict.Reasons) != 1 {
		t.Errorf("verdict %+v", r.Verdict)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := result.Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, with string) string {
		out := strings.Replace(string(good), old, with, 1)
		if out == string(good) {
			t.Fatalf("the document has no %q", old)
		}
		return out
	}
	for name, c := range map[string]struct{ doc, part string }{
		"empty":           {"", "unexpected end"},
		"half":            {string(good[:len(good)/2]), "line "},
		"array":           {"[]", "array"},
		"unknown field":   {edit(`"kind"`, `"kinds"`), "unknown field"},
		"no version":      {edit(`"schema_version": 1,`, ``), "no schema_version"},
		"newer":           {edit(`"schema_version": 1`, `"schema_version": 2`), "newer"},
		"version zero":    {edit(`"schema_version": 1`, `"schema_version": 0`), "impossible"},
		"two documents":   {string(good) + string(good), "after top-level value"},
		"status":          {edit(`"status": "valid"`, `"status": "great"`), "unknown"},
		"figure":          {edit(`"send_lateness_p99_ms"`, `"made_up_ms"`), "made_up_ms"},
		"unit":            {edit(`"unit": "ms"`, `"unit": "s"`), "unit"},
		"null no reason":  {edit(`"value": 12.5`, `"value": null`), "without a reason"},
		"text for number": {edit(`"value": 12.5`, `"value": "12.5"`), "line "},
		"NaN":             {edit(`"value": 12.5`, `"value": NaN`), "line "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := result.Decode([]byte(c.doc)); err == nil || !strings.Contains(err.Error(), c.part) {
				t.Errorf("got %v, want an error with %q", err, c.part)
			}
		})
	}
	if _, err := result.Decode([]byte(edit(`"schema_version": 1`, `"schema_version": 9`))); !errors.Is(err, result.ErrNewer) {
		t.Error("a newer document is not ErrNewer")
	}
}

func TestReadMissing(t *testing.T) {
	t.Parallel()
	if _, err := result.Read(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	t.Parallel()
	v := math.Inf(1)
	r := sample()
	r.Figures = figure.Set{"error_ratio": {Value: &v, Unit: "ratio"}}
	if _, err := result.Encode(r); err == nil {
		t.Error("infinity was encoded")
	}
	r = sample()
	r.Figures = figure.Set{"nobody_knows_ms": {Unit: "ms", Reason: "x"}}
	if _, err := result.Encode(r); err == nil {
		t.Error("a figure outside the table was encoded")
	}
}

// A failed write leaves the old document and no litter.
func TestWriteKeepsOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, result.FileName)
	if err := result.Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	bad := sample()
	bad.Config = json.RawMessage("{")
	if err := result.Write(path, bad); err == nil {
		t.Fatal("a broken config was written")
	}
	if _, err := result.Read(path); err != nil {
		t.Errorf("the old document is gone: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := result.Write(filepath.Join(dir, "taken"), sample()); err == nil {
		t.Error("a directory was overwritten")
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 2 {
		t.Errorf("litter: %v", names)
	}
}

func TestConcurrentReadersSeeWholeDocuments(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), result.FileName)
	if err := result.Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 30 {
				if err := result.Write(path, sample()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				if _, err := result.Read(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestFold(t *testing.T) {
	t.Parallel()
	bad := point("c=8", 2)
	bad.Verdict.Add(result.Truncated, result.Reason{Rule: "r", Message: "cut"})
	r := &result.Result{Curve: []result.Point{point("c=1", 1), bad}}
	r.Fold()
	if r.Verdict.Status != result.Truncated || len(r.Verdict.Reasons) != 1 || r.Verdict.Reasons[0].Message != "c=8: cut" {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if len(r.Figures) != 0 {
		t.Errorf("a curve of two has top figures %v", r.Figures)
	}
	for _, c := range []struct{ a, b, want result.Status }{
		{result.Valid, result.Valid, result.Valid},
		{result.Valid, result.ClientLimited, result.ClientLimited},
		{result.Failed, result.Invalid, result.Failed},
		{result.Interrupted, result.Failed, result.Interrupted},
		{"nonsense", result.Valid, result.Invalid},
	} {
		if got := result.Worst(c.a, c.b); got != c.want {
			t.Errorf("Worst(%s, %s) = %s, want %s", c.a, c.b, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := result.Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"schema_version":1,"curve":[{"verdict":{"status":"valid"}}],"verdict":{"status":"valid"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := result.Decode(data)
		if err != nil {
			return
		}
		again, err := result.Encode(r)
		if err != nil {
			t.Fatalf("a document that was read cannot be written: %v", err)
		}
		if _, err := result.Decode(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
