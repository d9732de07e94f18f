package chroma

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const recorded = "testdata/1.5.9"

// replay answers every call with the recorded bytes of one response and keeps
// the request it was given.
type replay struct {
	response []byte
	method   string
	uri      string
	body     []byte
}

func (r *replay) RoundTrip(req *http.Request) (*http.Response, error) {
	r.method, r.uri = req.Method, req.URL.RequestURI()
	if req.Body != nil {
		var err error
		if r.body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(r.response)), req)
}

// story is one recorded pair of a real Chroma 1.5.9.
func story(t *testing.T, name string) (*replay, *http.Request, []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(recorded, name+".request.http"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("%s has no header", name)
	}
	resp, err := os.ReadFile(filepath.Join(recorded, name+".response.http"))
	if err != nil {
		t.Fatal(err)
	}
	return &replay{response: resp}, req, body
}

func client(t *testing.T, rt http.RoundTripper) *Client {
	t.Helper()
	c, err := New("http://127.0.0.1:1", Options{Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// same checks that the client's request is the one recorded.
func same(t *testing.T, r *replay, req *http.Request, body []byte) {
	t.Helper()
	if r.method != req.Method || r.uri != req.URL.RequestURI() {
		t.Errorf("sent %s %s, the recorded one is %s %s", r.method, r.uri, req.Method, req.URL.RequestURI())
	}
	if !bytes.Equal(r.body, body) {
		t.Errorf("sent body %s\nrecorded  %s", r.body, body)
	}
}

const vecL2 = "54e49580-1997-4e83-ada8-15ee0183f833"

func TestQueryBytes(t *testing.T) {
	t.Parallel()
	r, req, body := story(t, "088-query-distances")
	c := client(t, r)
	b, err := AppendQuery(nil, []float32{1, 2, 3}, 3)
	if err != nil {
		t.Fatal(err)
	}
	var buf Buffer
	var a Answer
	st, err := c.Query(t.Context(), c.QueryURL(vecL2), b, &buf, &a)
	if err != nil {
		t.Fatal(err)
	}
	same(t, r, req, body)
	if got := text(a.IDs(0)); a.Rows() != 1 || !cmp.Equal(got, []string{"a", "b", "g"}) || !cmp.Equal(a.Distances(0), []float64{0, 0, 0}) {
		t.Errorf("rows %d ids %v distances %v", a.Rows(), got, a.Distances(0))
	}
	if st.Sent != len(body) || st.Got == 0 || st.End.Before(st.Header) || st.Header.Before(st.Start) {
		t.Errorf("stamp %+v", st)
	}
}

func text(ids [][]byte) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

func TestAddBytes(t *testing.T) {
	t.Parallel()
	name := func(names ...string) func([]byte, int) []byte {
		return func(dst []byte, i int) []byte { return append(dst, names[i]...) }
	}
	r, req, body := story(t, "073-add-unknown-collection")
	c := client(t, r)
	b, err := AppendAdd(nil, []float32{1, 2, 3}, 3, JSON, name("g"))
	if err != nil {
		t.Fatal(err)
	}
	var buf Buffer
	_, err = c.Add(t.Context(), c.AddURL("00000000-0000-4000-8000-000000000000"), b, &buf)
	same(t, r, req, body)
	want := &Error{Op: "add", Class: ClassClient, Status: 404, Code: "NotFoundError", Message: "Collection [00000000-0000-4000-8000-000000000000] does not exist."}
	if e := asError(t, err); !equalError(e, want) {
		t.Errorf("got %+v, want %+v", e, want)
	}

	// 053 adds [-1, 0, 0.25] and [0, 0, 0] in base64, with metadata after them.
	r, _, body = story(t, "053-add-base64")
	b, err = AppendAdd(nil, []float32{-1, 0, 0.25, 0, 0, 0}, 3, Base64, name("d", "e"))
	if err != nil {
		t.Fatal(err)
	}
	if head := strings.TrimSuffix(string(b), "}"); !strings.HasPrefix(string(body), head+`,"metadatas"`) {
		t.Errorf("encoded %s, recorded %s", b, body)
	}
	if _, err := client(t, r).Add(t.Context(), c.AddURL("x"), b, &buf); err != nil {
		t.Errorf("201 of the real server: %v", err)
	}
}

// TestBase64Lengths checks the chunked encoder against the standard one at
// every remainder.
func TestBase64Lengths(t *testing.T) {
	t.Parallel()
	for n := range 9 {
		vec := make([]float32, n)
		raw := []byte{}
		for i := range vec {
			vec[i] = float32(i) + 0.5
		}
		for _, v := range vec {
			raw = append(raw, f32(v)...)
		}
		got, err := appendBase64(nil, vec)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"` + std(raw) + `"`; string(got) != want {
			t.Errorf("%d values: %s, want %s", n, got, want)
		}
	}
}

func TestNotFinite(t *testing.T) {
	t.Parallel()
	for _, bad := range []float32{nan32(), inf32(), -inf32()} {
		if _, err := AppendQuery(nil, []float32{1, bad}, 1); err != ErrNotFinite {
			t.Errorf("query of %v: %v", bad, err)
		}
		for _, enc := range []Encoding{Base64, JSON} {
			if _, err := AppendAdd(nil, []float32{1, bad}, 2, enc, func(d []byte, _ int) []byte { return d }); err != ErrNotFinite {
				t.Errorf("add of %v as %s: %v", bad, enc, err)
			}
		}
	}
}

func TestRecordedQueries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		ids  [][]string
		dist [][]float64
	}{
		{"051-query-empty", [][]string{{}}, [][]float64{{}}},
		{"087-query-empty-include", [][]string{{"a", "b", "g"}}, nil},
		{"090-query-batch", [][]string{{"b", "g"}, {"c", "f"}}, [][]float64{{0, 0}, {0.25, 14}}},
		{"091-query-n-over", [][]string{{"a", "b", "g", "u", "e", "d", "c", "f"}}, nil},
		{"096-query-none", [][]string{}, [][]float64{}},
		{"112-cosine-query", [][]string{{"a", "b", "z", "c"}}, [][]float64{{1.1920929e-7, 1.1920929e-7, 1, 1.0648204}}},
		{"114-ip-query", [][]string{{"b", "a", "z", "c"}}, [][]float64{{-27, -13, 1, 1.25}}},
		{"140-query-float-text", [][]string{{"i1", "i0"}, {"i845", "i848"}}, [][]float64{{0.0018367352, 0.010000001}, {1e20, 1e20}}},
	} {
		r, _, _ := story(t, tc.name)
		var buf Buffer
		var a Answer
		c := client(t, r)
		if _, err := c.Query(t.Context(), c.QueryURL("x"), []byte("{}"), &buf, &a); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		ids, dist := [][]string{}, [][]float64(nil)
		for i := range a.Rows() {
			ids = append(ids, text(a.IDs(i)))
			if d := a.Distances(i); d != nil {
				dist = append(dist, d)
			}
		}
		if len(tc.dist) == 0 {
			tc.dist = nil // an answer to no query has no row to ask
		}
		if diff := cmp.Diff(tc.ids, ids); diff != "" {
			t.Errorf("%s ids: %s", tc.name, diff)
		}
		if diff := cmp.Diff(tc.dist, dist); diff != "" {
			t.Errorf("%s distances: %s", tc.name, diff)
		}
	}
}

func TestRecordedFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		want Error
	}{
		{"132-rate-limited", Error{Class: ClassRefused, Status: 429, Message: "You have been rate limited."}},
		{"131-payload-too-large", Error{Class: ClassTooLarge, Status: 413, Message: "Payload too large"}},
		{"059-add-dimension-mismatch", Error{Class: ClassClient, Status: 400, Code: "InvalidArgumentError", Message: "Collection expecting embedding with dimension of 3, got 2"}},
		{"064-add-null-embeddings", Error{Class: ClassClient, Status: 422, Code: "ChromaError", Message: "Failed to deserialize the JSON body into the target type: embeddings: data did not match any variant of untagged enum EmbeddingsPayload at line 1 column 31"}},
		{"067-add-base64-nan", Error{Class: ClassClient, Status: 400, Code: "InvalidArgumentError", Message: "Non-finite float value at embedding index 0: NaN"}},
		{"110-query-unknown-collection", Error{Class: ClassClient, Status: 404, Code: "NotFoundError", Message: "Collection [00000000-0000-4000-8000-000000000000] does not exist."}},
		{"008-unknown-route", Error{Class: ClassClient, Status: 404}},
		{"009-wrong-method", Error{Class: ClassClient, Status: 405}},
		{"006-v1-gone", Error{Class: ClassClient, Status: 410, Code: "Unimplemented", Message: "The v1 API is deprecated. Please use /v2 apis"}},
	} {
		r, _, _ := story(t, tc.name)
		var buf Buffer
		var a Answer
		_, err := client(t, r).Query(t.Context(), "http://127.0.0.1:1/x", []byte("{}"), &buf, &a)
		tc.want.Op = "query"
		if e := asError(t, err); !equalError(e, &tc.want) {
			t.Errorf("%s: got %+v, want %+v", tc.name, e, tc.want)
		}
	}
}

func TestRecordedCollections(t *testing.T) {
	t.Parallel()
	r, req, _ := story(t, "025-collection-create-hnsw-l2")
	c := client(t, r)
	want := HNSW{Space: "l2", MaxNeighbors: 32, EfConstruction: 200, EfSearch: 50, SyncThreshold: 500}
	col, _, err := c.Create(t.Context(), "vec-l2", want)
	if err != nil {
		t.Fatal(err)
	}
	if col.ID != vecL2 || col.Name != "vec-l2" || col.HNSW != want || col.Dimension != 0 {
		t.Errorf("created %+v", col)
	}
	if r.uri != req.URL.RequestURI() || bytes.Contains(r.body, []byte("get_or_create")) {
		t.Errorf("sent %s %s", r.uri, r.body)
	}
	r, _, _ = story(t, "033-collection-create-exists")
	if _, _, err = client(t, r).Create(t.Context(), "vec-l2", want); asError(t, err).Status != 409 {
		t.Errorf("existing name: %v", err)
	}
	r, req, _ = story(t, "041-collection-get")
	if col, err = client(t, r).Collection(t.Context(), "vec-l2"); err != nil || col.ID != vecL2 {
		t.Errorf("get: %+v %v", col, err)
	}
	same(t, r, req, nil)
	r, req, _ = story(t, "055-count")
	if n, err := client(t, r).Count(t.Context(), vecL2); err != nil || n != 5 {
		t.Errorf("count: %d %v", n, err)
	}
	same(t, r, req, nil)
	r, req, _ = story(t, "127-collection-delete")
	if _, err := client(t, r).Drop(t.Context(), "vec-renamed"); err != nil {
		t.Error(err)
	}
	same(t, r, req, nil)
	r, req, _ = story(t, "058-get-duplicate-kept")
	got, err := client(t, r).Vectors(t.Context(), vecL2, []string{"f", "a"})
	if diff := cmp.Diff(map[string][]float32{"a": {1, 2, 3}, "f": {7, 7, 7}}, got); err != nil || diff != "" {
		t.Errorf("get: %v %s", err, diff)
	}
	if r.uri != req.URL.RequestURI() {
		t.Errorf("sent to %s, recorded %s", r.uri, req.URL.RequestURI())
	}
}

// byPath replays one recorded response for each of several paths.
type byPath map[string]*replay

func (b byPath) RoundTrip(req *http.Request) (*http.Response, error) {
	return b[req.URL.Path].RoundTrip(req)
}

func TestIdentifyRecorded(t *testing.T) {
	t.Parallel()
	rt := byPath{}
	for path, name := range map[string]string{"heartbeat": "001-heartbeat", "healthcheck": "002-healthcheck", "version": "003-version", "pre-flight-checks": "004-preflight"} {
		rt["/api/v2/"+path], _, _ = story(t, name)
	}
	c := client(t, rt)
	id, err := c.Identify(t.Context())
	if want := (Identity{Version: "1.0.0", MaxBatchSize: 5461, Base64: true}); err != nil || id != want {
		t.Errorf("%+v %v", id, err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	html := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>")
	c = client(t, &replay{response: html})
	if _, err := c.Identify(t.Context()); ClassOf(err) != ClassMalformed {
		t.Errorf("a web page identified as %v", err)
	}
	if err := c.Ready(t.Context()); ClassOf(err) != ClassMalformed {
		t.Errorf("a web page is ready: %v", err)
	}
	bad := []byte("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>\x1b[31mBad</h1>\n\x00\xff ok")
	e := asError(t, errOf(client(t, &replay{response: bad}).Identify(t.Context())))
	if e.Class != ClassServer || !strings.Contains(e.Message, "is this address a Chroma server?") || strings.ContainsFunc(e.Error(), unicode.IsControl) || !utf8.ValidString(e.Error()) {
		t.Errorf("%q", e.Error())
	}
}

func errOf(_ Identity, err error) error { return err }
