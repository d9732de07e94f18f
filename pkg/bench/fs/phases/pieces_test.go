package phases

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"aifbench/pkg/bench/record"
)

func TestLatencyQuantileAgainstSortedValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<39), 20, 400).Draw(t, "ns")
		cut := rapid.IntRange(0, len(values)).Draw(t, "cut")
		a, b := &Latency{}, &Latency{}
		for i, v := range values {
			if i < cut {
				a.Add(v)
			} else {
				b.Add(v)
			}
		}
		a.Merge(b)
		sorted := slices.Sorted(slices.Values(values))
		got, ok := a.Quantile(0.5)
		want := sorted[(len(sorted)+1)/2-1]
		if !ok || got < want || float64(got) > float64(want)*(1+1.0/64)+1 {
			t.Fatalf("median %d %v, want %d to 1/64 more", got, ok, want)
		}
		if a.Max() != sorted[len(sorted)-1] || a.N() != int64(len(values)) {
			t.Fatalf("max %d of %d", a.Max(), a.N())
		}
		back, err := FromPairs(a.Pairs(), a.Max())
		if err != nil || *back != *a {
			t.Fatalf("pairs do not rebuild the histogram: %v", err)
		}
	})
}

func TestLatencyEdges(t *testing.T) {
	t.Parallel()
	for _, v := range []int64{0, 1, 63, 64, 65, 127, 128, 1 << 20, 1<<39 + 12345, 1<<40 - 1} {
		b := bucket(v)
		if up := upper(b); up < v || b > 0 && upper(b-1) >= v {
			t.Errorf("%d is in bucket %d, which ends at %d after %d", v, b, up, upper(b-1))
		}
	}
	if bucket(math.MaxInt64) != buckets-1 || bucket(-5) != 0 {
		t.Error("extreme values leave the buckets")
	}
	l := &Latency{}
	for range 999 {
		l.Add(1000)
	}
	if _, ok := l.Quantile(0.99); ok {
		t.Error("p99 of 999 samples was given: 9.99 lie beyond it")
	}
	l.Add(1 << 50)
	if ns, ok := l.Quantile(0.99); !ok || ns < 1000 || ns > 1015 {
		t.Errorf("p99 of 1000 is %d %v", ns, ok)
	}
	if l.Max() != 1<<50 {
		t.Errorf("max %d", l.Max())
	}
}

func TestRowsSurviveTheRecordFile(t *testing.T) {
	t.Parallel()
	n := int64(7)
	l := &Latency{}
	l.Add(5)
	l.Add(1 << 33)
	want := []Row{
		{Phase: Find, Rank: 0, StartNS: 1, EndNS: 2, Ops: 3, Failed: 4, Bytes: 5, Verified: 6, Corrupt: 7, Matched: 8, WallOps: 9, WallNS: 10, Capped: true, Error: "x\x00\"", Latency: l, Status: Failed, Read: &n, Expected: &n},
		{Phase: RndRead, Rank: 1, Latency: &Latency{}, Status: Done},
	}
	path := filepath.Join(t.TempDir(), "r.rec")
	w, err := record.Create(path, record.Header{Kind: RecordKind, Columns: Columns()})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range want {
		if err := w.Append(r.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := record.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := NewDecoder(r.Header())
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		cells, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Row(cells)
		if err != nil || !reflect.DeepEqual(got, want[i]) {
			t.Errorf("row %d: %+v, %v, want %+v", i, got, err, want[i])
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("end: %v", err)
	}
}

func TestOurs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"ior-easy/": true, "ior-easy/ior_file_easy.00000000": true, "ior-hard/file": true,
		"mdtest-easy/test-dir.0-0/": true, "mdtest-easy/test-dir.0-0/mdtest_tree.12.0/": true,
		"mdtest-hard/test-dir.0-0/mdtest_tree.0/":                   true,
		"mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.3.1234": true, "timestampfile": true,
		"ior-easy/ior_file_easy": true, "ior-easy/17/": true, "ior-easy/17/ior_file_easy.00000017": true, "ior-easy/17/x": false, "ior-easy/x/": false,
		"": false, "ior-easy": false, "ior-hard/": true, "ior-easy/x": false, "ior-easy/ior_file_easy.": false,
		"ior-easy/ior_file_easy.1/": false, "ior-hard/file/": false, "timestampfile/": false,
		"mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.3.x":  false,
		"mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.3":    false,
		"mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.3.4/": false,
		"mdtest-hard/a": false, "home/": false, "mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.3.4/x": false,
	} {
		dir := len(path) > 0 && path[len(path)-1] == '/'
		name := path
		if dir {
			name = path[:len(path)-1]
		}
		if got := Ours(name, dir); got != want {
			t.Errorf("Ours(%q, %v) = %v", name, dir, got)
		}
	}
}

func TestMatchingNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rank    int
		n, want int64
	}{
		{0, 101, 0}, {0, 102, 1}, {1, 1020, 20}, {10, 10, 0}, {101, 10, 10}, {0, 0, 0},
	} {
		if got := matching(c.rank, c.n); got != c.want {
			t.Errorf("rank %d, %d items: %d match, want %d", c.rank, c.n, got, c.want)
		}
	}
}

func TestSpoiledBufferCannotPass(t *testing.T) {
	t.Parallel()
	buf, want := make([]byte, 3*4096+5), make([]byte, 3*4096+5)
	fill(buf, 1, 2)
	fill(want, 1, 2)
	spoil(buf)
	for page := range 4 {
		end := min((page+1)*4096, len(buf))
		if differs(buf[page*4096:end], want[page*4096:end]) != 0 {
			t.Errorf("page %d passes unread", page)
		}
	}
}

func TestParseIO(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("SKIP-PROC: /proc/self/io is not readable here")
	}
	if _, _, ok := parseIO(text); !ok {
		t.Errorf("this kernel's own text is not understood: %q", text)
	}
	r, w, ok := parseIO([]byte("rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n"))
	if !ok || r != 4096 || w != 8192 {
		t.Errorf("%d %d %v", r, w, ok)
	}
	if _, _, ok := parseIO([]byte("read_bytes: x\n")); ok {
		t.Error("a text without numbers passes")
	}
}

func FuzzFromPairs(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, int64(5))
	f.Fuzz(func(t *testing.T, b []byte, most int64) {
		var pairs []int64
		for _, x := range b {
			pairs = append(pairs, int64(int8(x))*37)
		}
		l, err := FromPairs(pairs, most)
		if err == nil && l.N() >= 20 {
			if _, ok := l.Quantile(0.5); !ok {
				t.Error("no median")
			}
		}
	})
}

func BenchmarkLatencyAdd(b *testing.B) {
	l := &Latency{}
	b.ReportAllocs()
	for i := range b.N {
		l.Add(int64(i))
	}
}
