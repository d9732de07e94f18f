package chroma_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/services/sim/chroma"
)

// start serves a store and returns the addresses of one fresh collection.
func start(t *testing.T, cfg chroma.Config, configuration string) (base, col string) {
	t.Helper()
	srv := httptest.NewServer(chroma.New(cfg))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	status, _, body := do(t, "POST", srv.URL+"/api/v2"+db, `{"name":"abc","configuration":`+configuration+`}`, "application/json")
	var doc struct{ ID string }
	if err := json.Unmarshal(body, &doc); err != nil || status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	return srv.URL, srv.URL + "/api/v2" + db + "/" + doc.ID
}

func TestNamesItself(t *testing.T) {
	t.Parallel()
	base, _ := start(t, chroma.Config{}, `{}`)
	_, h, body := do(t, "GET", base+"/api/v2/heartbeat", "", "")
	var beat map[string]any
	if err := json.Unmarshal(body, &beat); err != nil {
		t.Fatal(err)
	}
	if h.Get("Server") != chroma.ServerHeader || beat[chroma.HeartbeatField] != true || beat["nanosecond heartbeat"] == nil {
		t.Errorf("header %q heartbeat %s", h.Get("Server"), body)
	}
	// A refusal names itself too.
	if _, h, _ := do(t, "GET", base+"/nope", "", ""); h.Get("Server") != chroma.ServerHeader {
		t.Error("the 404 does not name the store")
	}
}

func TestFiltersAreRefused(t *testing.T) {
	t.Parallel()
	_, col := start(t, chroma.Config{}, `{}`)
	for verb, body := range map[string]string{
		"query":  `{"query_embeddings":[[1]],"where":{"a":1}}`,
		"get":    `{"where_document":{"$contains":"x"}}`,
		"delete": `{"where":{"a":1}}`,
		"upsert": `{"ids":["a"],"embeddings":[[1]]}`,
	} {
		if status, _, got := do(t, "POST", col+"/"+verb, body, "application/json"); status != http.StatusNotImplemented {
			t.Errorf("%s: status %d %s: a store that ignores what it was asked misleads", verb, status, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	base, col := start(t, chroma.Config{}, `{}`)
	do(t, "POST", col+"/add", `{"ids":["a","b"],"embeddings":[[1],[2]]}`, "application/json")
	for range 3 {
		do(t, "POST", col+"/query", `{"query_embeddings":[[1]]}`, "application/json")
	}
	_, h, body := do(t, "GET", base+"/metrics", "", "")
	for _, line := range []string{
		`aifbench_sim_chroma_requests_total{route="collection_add"} 1`,
		`aifbench_sim_chroma_requests_total{route="collection_query"} 3`,
		"aifbench_sim_chroma_collections 1", "aifbench_sim_chroma_records 2",
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("content type %q", h.Get("Content-Type"))
	}
}

// TestSnapshot checks that files hold the last sync only, as Chroma's do.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, col := start(t, chroma.Config{PersistDir: dir}, `{"hnsw":{"sync_threshold":2}}`)
	do(t, "POST", col+"/add", `{"ids":["a"],"embeddings":[[1,2]]}`, "application/json")
	if files, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(files) != 0 {
		t.Fatalf("files before the first sync: %v %v", files, err)
	}
	do(t, "POST", col+"/add", `{"ids":["b","c"],"embeddings":[[3,4],[5,6]]}`, "application/json")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v %v", files, err)
	}
	var want []byte
	for _, v := range []float32{1, 2, 3, 4} {
		want = binary.LittleEndian.AppendUint32(want, math.Float32bits(v))
	}
	got, err := os.ReadFile(files[0])
	if err != nil || filepath.Base(files[0]) != "data_level0.bin" || !bytes.Equal(got, want) {
		t.Errorf("%s: %v %v", files[0], got, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	statuses := func(t *testing.T, cfg chroma.Faults, n int) string {
		t.Helper()
		_, col := start(t, chroma.Config{Faults: cfg}, `{}`)
		out := ""
		for i := range n {
			status, h, body := do(t, "POST", col+"/add", fmt.Sprintf(`{"ids":["r%d"],"embeddings":[[1]]}`, i), "application/json")
			switch {
			case strings.Contains(h.Get("Content-Type"), "html"):
				out += "H"
			case status == 201 && string(body) == "{}":
				out += "."
			case status == 429 && string(body) == "You have been rate limited.":
				out += "R"
			case status == 500:
				out += "F"
			default:
				t.Fatalf("status %d %s", status, body)
			}
		}
		return out
	}
	for _, tc := range []struct {
		want string
		f    chroma.Faults
	}{
		{"......", chroma.Faults{}},
		{".R.R.R", chroma.Faults{RefuseEvery: 2}},
		{"..F..F", chroma.Faults{FailEvery: 3}},
		{".....H", chroma.Faults{HTMLEvery: 6}},
		{"......", chroma.Faults{RefuseEvery: 1, Only: "/query"}},
	} {
		if got := statuses(t, tc.f, 6); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.f, got, tc.want)
		}
	}
	_, col := start(t, chroma.Config{Faults: chroma.Faults{DropEvery: 3, ForeignIDEvery: 2, DistanceOffset: 0.5}}, `{}`)
	do(t, "POST", col+"/add", `{"ids":["a","b","c","d"],"embeddings":[[1],[2],[3],[4]]}`, "application/json")
	if _, _, body := do(t, "GET", col+"/count", "", ""); string(body) != "3" {
		t.Errorf("count %s after one of four was dropped", body)
	}
	_, _, body := do(t, "POST", col+"/query", `{"query_embeddings":[[1]],"include":["distances"]}`, "application/json")
	equalJSON(t, "planted", `{"ids":[["a","stranger-b","d"]],"distances":[[0.5,1.5,9.5]],"embeddings":null,"documents":null,"uris":null,"metadatas":null,"include":["distances"]}`, body)
}

func TestDies(t *testing.T) {
	t.Parallel()
	base, col := start(t, chroma.Config{Faults: chroma.Faults{DieAfter: 2}}, `{}`)
	for range 2 {
		do(t, "POST", col+"/query", `{"query_embeddings":[[1]]}`, "application/json")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v2/heartbeat", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	if resp, err := tr.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the dead store answered %d", resp.StatusCode)
	}
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- chroma.Serve(ctx, ln, chroma.Config{}) }()
	do(t, "GET", "http://"+ln.Addr().String()+"/api/v2/healthcheck", "", "")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
