package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testColumns = []Column{
	{Name: "seq", Kind: KindInt}, {Name: "at", Kind: KindFloat, Unit: "s"}, {Name: "class", Kind: KindString}, {Name: "gaps", Kind: KindInts, Unit: "ns"},
}

func head() Header {
	return Header{Kind: "test", Columns: testColumns, Meta: map[string]string{"config": `{"a":1}`}}
}

// clone copies a row that belongs to a reader.
func clone(r Row) Row {
	out := slices.Clone(r)
	for i := range out {
		if out[i].Ints != nil {
			out[i].Ints = slices.Clone(out[i].Ints)
		}
	}
	return out
}

func readAll(t testing.TB, b []byte) ([]Row, string) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var out []Row
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Fatal("rows after the end")
			}
			return out, r.Warning()
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, clone(row))
	}
}

func equal(a, b Row) bool {
	return slices.EqualFunc(a, b, func(x, y Value) bool {
		return x.Null == y.Null && x.Int == y.Int && math.Float64bits(x.Float) == math.Float64bits(y.Float) && x.Str == y.Str && slices.Equal(x.Ints, y.Ints)
	})
}

func write(t testing.TB, rows []Row, flushEvery int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, head())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
		if flushEvery > 0 && (i+1)%flushEvery == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func genRow(t *rapid.T) Row {
	null := rapid.Bool()
	pick := func(v Value) Value {
		if null.Draw(t, "null") {
			return Null()
		}
		return v
	}
	return Row{
		pick(Int(rapid.Int64().Draw(t, "int"))),
		pick(Float(rapid.Float64().Draw(t, "float"))),
		pick(Str(rapid.SampledFrom([]string{"", "ok", "http_503", "é\x00\xff"}).Draw(t, "str"))),
		pick(Ints(rapid.SliceOfN(rapid.Int64(), 0, 20).Draw(t, "ints"))),
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(genRow), 0, 50).Draw(rt, "rows")
		b := write(t, rows, rapid.IntRange(0, 7).Draw(rt, "flush"))
		got, warn := readAll(t, b)
		if warn != "" || !slices.EqualFunc(rows, got, equal) {
			rt.Fatalf("warning %q\nwrote %v\nread  %v", warn, rows, got)
		}
	})
}

// Whatever byte a file is cut at, the rows of its whole blocks come back and
// nothing else does.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	var rows []Row
	for i := range int64(9) {
		rows = append(rows, Row{Int(i), Float(float64(i)), Str("x"), Ints([]int64{i, -i})})
	}
	b := write(t, rows, 3)
	first := len(write(t, nil, 0)) - (frameOverhead + 1) // the header, without the end mark
	seen := map[int]bool{}
	for n := range b {
		if n < first {
			if _, err := NewReader(bytes.NewReader(b[:n])); err == nil {
				t.Fatalf("cut at %d: a header that is cut was taken", n)
			}
			continue
		}
		got, warn := readAll(t, b[:n])
		if warn == "" {
			t.Fatalf("cut at %d: no warning", n)
		}
		if len(got)%3 != 0 || !slices.EqualFunc(got, rows[:len(got)], equal) {
			t.Fatalf("cut at %d: rows %v", n, got)
		}
		seen[len(got)] = true
	}
	for _, n := range []int{0, 3, 6, 9} {
		if !seen[n] {
			t.Errorf("no cut gave %d rows", n)
		}
	}
}

// Whatever bit is flipped, no wrong row comes back.
func TestEveryFlip(t *testing.T) {
	t.Parallel()
	var rows []Row
	for i := range int64(4) {
		rows = append(rows, Row{Int(i), Null(), Str("y"), Ints([]int64{1 << 40})})
	}
	b := write(t, rows, 2)
	for i := range b {
		for bit := range 8 {
			bad := slices.Clone(b)
			bad[i] ^= 1 << bit
			r, err := NewReader(bytes.NewReader(bad))
			if err != nil {
				continue
			}
			n := 0
			for {
				row, err := r.Next()
				if err != nil {
					break
				}
				if n >= len(rows) || !equal(row, rows[n]) {
					t.Fatalf("byte %d bit %d: row %d is %v", i, bit, n, row)
				}
				n++
			}
			if r.Warning() == "" {
				t.Fatalf("byte %d bit %d: no warning", i, bit)
			}
		}
	}
}

// Not parallel: it counts what the process allocates.
func TestFalseLengthsAllocateNothing(t *testing.T) {
	b := write(t, nil, 0)
	b = b[:len(b)-(frameOverhead+1)]
	huge := append(slices.Clone(b), frameBlock, 0, 0, 0, 4, 1, 2, 3, 4) // claims 64 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, warn := readAll(t, huge); !strings.Contains(warn, "cut after 0") {
		t.Errorf("warning %q", warn)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes allocated for a frame of no bytes that claims 64 MiB", n)
	}
	over := append(slices.Clone(b), frameBlock, 1, 0, 0, 4, 1, 2, 3, 4)
	if _, warn := readAll(t, over); !strings.Contains(warn, "claims") {
		t.Errorf("warning %q", warn)
	}
	// Right checksum, wrong counts: a forged block.
	for name, payload := range map[string][]byte{
		"strings": binary.AppendUvarint(nil, 1<<40),
		"rows":    append([]byte{0}, binary.AppendUvarint(nil, 1<<40)...),
		"list":    append([]byte{0, 1, 7}, binary.AppendUvarint(nil, 1<<40)...),
		"index":   {0, 1, 0b1011, 5},
		"empty":   {},
	} {
		rows, warn := readAll(t, appendFrame(slices.Clone(b), frameBlock, payload))
		if len(rows) != 0 || warn == "" {
			t.Errorf("%s: %v, %q", name, rows, warn)
		}
	}
	if rows, warn := readAll(t, appendFrame(slices.Clone(b), frameEnd, []byte{3})); len(rows) != 0 || !strings.Contains(warn, "counts 3") {
		t.Errorf("%q", warn)
	}
	if rows, warn := readAll(t, append(write(t, nil, 0), 'x')); len(rows) != 0 || !strings.Contains(warn, "after the end") {
		t.Errorf("%q", warn)
	}
}

func TestHeaderIsStrict(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]Header{
		"no kind":    {Columns: testColumns},
		"no columns": {Kind: "x"},
		"twice":      {Kind: "x", Columns: []Column{{Name: "a", Kind: KindInt}, {Name: "a", Kind: KindInt}}},
		"odd kind":   {Kind: "x", Columns: []Column{{Name: "a", Kind: "bool"}}},
	} {
		if _, err := NewWriter(io.Discard, h); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, doc := range map[string]string{
		"unknown field": `{"schema_version":1,"kind":"x","columns":[{"name":"a","kind":"int","unit":""}],"x":1}`,
		"version":       `{"schema_version":2,"kind":"x","columns":[{"name":"a","kind":"int","unit":""}]}`,
		"not json":      `{`,
	} {
		if _, err := NewReader(bytes.NewReader(appendFrame([]byte(magic), frameHeader, []byte(doc)))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewReader(strings.NewReader("PK\x03\x04")); !errors.Is(err, ErrNotRecord) {
		t.Errorf("%v", err)
	}
	h := head()
	if _, err := h.Require(Column{Name: "at", Kind: KindInt}); err == nil {
		t.Error("a column of another kind is taken")
	}
	if at, err := h.Require(testColumns[2], testColumns[0]); err != nil || !slices.Equal(at, []int{2, 0}) {
		t.Errorf("%v %v", at, err)
	}
}

func TestFileAndQueue(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir(), "test")
	w, err := Create(path, head())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	q := NewQueue(w, 2)
	var wg sync.WaitGroup
	for g := range int64(4) {
		wg.Go(func() {
			for i := range int64(1000) {
				q.Put(Row{Int(g*1000 + i), Null(), Str("ok"), Null()})
			}
		})
	}
	wg.Wait()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, head()); !errors.Is(err, os.ErrExist) {
		t.Fatalf("raw samples were replaced: %v", err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []int64
	for {
		row, err := r.Next()
		if err != nil {
			break
		}
		got = append(got, row[0].Int)
	}
	slices.Sort(got)
	if len(got) != 4000 || got[0] != 0 || got[3999] != 3999 || r.Warning() != "" {
		t.Fatalf("%d rows, %q", len(got), r.Warning())
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.rec")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// full is a disk that is full after so many bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errors.New("no space left on device")
	}
	f.left -= len(p)
	return len(p), nil
}

func TestFullDiskIsReportedAndDoesNotBlock(t *testing.T) {
	t.Parallel()
	w, err := NewWriter(&full{left: 600}, head())
	if err != nil {
		t.Fatal(err)
	}
	q := NewQueue(w, 1)
	for i := range int64(100_000) {
		q.Put(Row{Int(i), Float(1), Str("x"), Null()})
	}
	if err := q.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("%v", err)
	}
}

func TestJSONL(t *testing.T) {
	t.Parallel()
	b := write(t, []Row{
		{Int(-1), Float(math.NaN()), Str("</script>\x1b"), Ints([]int64{1, -2})},
		{Null(), Float(0.5), Null(), Ints(nil)},
	}, 0)
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := JSONL(&out, r); err != nil {
		t.Fatal(err)
	}
	want := `{"seq":-1,"at":null,"class":"\u003c/script\u003e\u001b","gaps":[1,-2]}` + "\n" + `{"seq":null,"at":0.5,"class":null,"gaps":[]}` + "\n"
	if out.String() != want {
		t.Fatalf("got  %s\nwant %s", out.String(), want)
	}
}

func TestWrongRowIsRefused(t *testing.T) {
	t.Parallel()
	w, err := NewWriter(io.Discard, head())
	if err != nil {
		t.Fatal(err)
	}
	if w.Append(Row{Int(1)}) == nil {
		t.Fatal("a row of one cell")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Append(Row{Null(), Null(), Null(), Null()}) == nil {
		t.Fatal("a row after the end")
	}
}

func FuzzReader(f *testing.F) {
	b := write(f, []Row{{Int(1), Float(2), Str("a"), Ints([]int64{3})}, {Null(), Null(), Null(), Null()}}, 1)
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		n := int64(0)
		for {
			_, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > int64(len(in)) {
				t.Fatal("more rows than bytes")
			}
		}
		if r.Rows() != n {
			t.Fatalf("%d rows counted, %d read", r.Rows(), n)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	w, err := NewWriter(io.Discard, head())
	if err != nil {
		b.Fatal(err)
	}
	gaps := make([]int64, 128)
	for i := range gaps {
		gaps[i] = 10_000_000 + int64(i)
	}
	row := Row{Int(1), Float(2), Str("ok"), Ints(gaps)}
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Append(row); err != nil {
			b.Fatal(err)
		}
	}
}
