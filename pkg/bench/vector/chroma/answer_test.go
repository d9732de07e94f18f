package chroma

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not a *chroma.Error", err)
	}
	return e
}

func equalError(a, b *Error) bool {
	return a.Op == b.Op && a.Class == b.Class && a.Status == b.Status && a.Code == b.Code && a.Message == b.Message
}

func f32(v float32) []byte   { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
func std(b []byte) string    { return base64.StdEncoding.EncodeToString(b) }
func nan32() float32         { return float32(math.NaN()) }
func inf32() float32         { return float32(math.Inf(1)) }
func parse(s string) error   { var a Answer; return a.Parse([]byte(s)) }
func bodyOf(b []byte) []byte { _, after, _ := strings.Cut(string(b), "\r\n\r\n"); return []byte(after) }

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		``, `null`, `[]`, `{`, `{}`, `{"ids":null}`, `{"ids":[]`, `{"ids":["a"]}`, `{"ids":[[1]]}`, `{"ids":[[null]]}`,
		`{"ids":[["a"]],"ids":[["b"]]}`,
		`{"ids":[["a"]],"distances":[[NaN]]}`, `{"ids":[["a"]],"distances":[[null]]}`, `{"ids":[["a"]],"distances":[["0"]]}`,
		`{"ids":[["a"]],"distances":[[1e999]]}`, `{"ids":[["a"]],"distances":[[.5]]}`, `{"ids":[["a"]],"distances":[[01]]}`,
		`{"ids":[["a"]],"distances":[[1.]]}`, `{"ids":[["a"]],"distances":[[-]]}`, `{"ids":[["a"]],"distances":[[1e]]}`,
		`{"ids":[["a","b"]],"distances":[[1]]}`, `{"ids":[["a"],["b"]],"distances":[[1,2]]}`, `{"ids":[["a"]],"distances":[]}`,
		`{"ids":[["a"]]} x`, `{"ids":[["a"]],}`, `{"ids":[["a",]]}`, `{"ids":[["a]]}`, "{\"ids\":[[\"a\nb\"]]}", `{"ids":[["\q"]]}`,
		"{\"ids\":[[\"\xff\"]]}", `{"ids":[["a"]],"x":tru}`, `{"ids":[["a"]],"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		`<html>`,
	} {
		if err := parse(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	var a Answer
	// Escapes, blanks, unknown fields, fields in another order.
	if err := a.Parse([]byte(" { \"distances\" : [ [ -0.5e-3 , 1E+2 ] ] , \"x\":{\"y\":[true,false,null,\"\\u00e9\"]}, \"ids\" : [ [ \"\\u0061\\n\" , \"é\" ] ] } \n")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a\n", "é"}, text(a.IDs(0))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float64{-0.0005, 100}, a.Distances(0)); diff != "" {
		t.Error(diff)
	}
	// A reused answer keeps nothing of the one before.
	if err := a.Parse([]byte(`{"ids":[[]],"distances":null}`)); err != nil || a.Rows() != 1 || len(a.IDs(0)) != 0 || a.Distances(0) != nil {
		t.Errorf("%v rows %d", err, a.Rows())
	}
}

// FuzzAnswer checks the hand-written parser against encoding/json: whatever it
// accepts is JSON and holds the same ids and distances.
func FuzzAnswer(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(recorded, "*query*.response.http"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no recorded answers: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bodyOf(b))
	}
	f.Add([]byte(`{"ids":[["\u0061"]],"distances":[[-0.0]],"include":[{"a":[1e-7,true]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var a Answer
		if a.Parse(body) != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted what is no JSON: %q", body)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatal(err)
		}
		var ids [][]string
		var dist [][]float64
		if err := json.Unmarshal(fields["ids"], &ids); err != nil {
			t.Fatalf("ids: %v", err)
		}
		if d, ok := fields["distances"]; ok {
			if err := json.Unmarshal(d, &dist); err != nil {
				t.Fatalf("distances: %v", err)
			}
		}
		if a.Rows() != len(ids) {
			t.Fatalf("%d rows, want %d", a.Rows(), len(ids))
		}
		for i, row := range ids {
			got := text(a.IDs(i))
			if len(got) != len(row) {
				t.Fatalf("row %d: %d ids, want %d", i, len(got), len(row))
			}
			for j := range row {
				if got[j] != row[j] {
					t.Fatalf("id %q, want %q", got[j], row[j])
				}
			}
			if d := a.Distances(i); d != nil {
				for j := range d {
					if d[j] != dist[i][j] {
						t.Fatalf("distance %v, want %v", d[j], dist[i][j])
					}
				}
			} else if dist != nil && len(row) > 0 {
				t.Fatal("distances lost")
			}
		}
	})
}

// FuzzCollection and FuzzVectors only must not fall over: the standard decoder
// does the work.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"id":"x","name":"y","configuration_json":{"hnsw":{"space":"l2"}}}`))
	f.Add([]byte(`{"ids":["a"],"embeddings":[[1,2]]}`))
	f.Add([]byte(`12`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Client{}
		if col, err := c.parseCollection("get", body); err == nil && (col.ID == "" || col.Name == "") {
			t.Fatal("a collection without id or name")
		}
		if m, err := parseVectors(body); err == nil && m == nil {
			t.Fatal("neither vectors nor an error")
		}
		if n, err := parseCount(body); err == nil && n < 0 {
			t.Fatal("a negative count")
		}
		if s := statusError("x", 500, "", body).Error(); strings.ContainsAny(s, "\x1b\x00\n\r") {
			t.Fatalf("control characters in %q", s)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	body := []byte(`{"ids":[["ab12-1","ab12-22","ab12-333","ab12-4444","ab12-5","ab12-6","ab12-7","ab12-8","ab12-9","ab12-10"]],"embeddings":null,"documents":null,"uris":null,"metadatas":null,"distances":[[0.0018367352,0.010000001,0.12,0.33,0.4412345,0.5,0.6,0.7,0.8,0.9]],"include":["distances"]}`)
	var a Answer
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
