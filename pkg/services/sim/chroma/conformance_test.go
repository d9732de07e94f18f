package chroma_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"aifbench/pkg/services/sim/chroma"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The one suite runs against the store and against a real Chroma: what it
// says of one is true of the other.
func TestConformanceSim(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(chroma.New(chroma.Config{}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	conform(t, srv.URL)
}

func TestConformanceReal(t *testing.T) {
	t.Parallel()
	conform(t, startReal(t))
}

// call is one step of the story. In path and body {l2} {cosine} {ip} stand for
// the uuids of the collections made first.
type call struct {
	name   string
	method string
	path   string
	body   string
	status int
	kind   string // field error of the answer
	part   string // what the message must contain
	exact  string // the whole answer as JSON, "" for not compared
}

const db = "/tenants/default_tenant/databases/default_database/collections"

func story() []call {
	post := func(name, path, body string, status int) call {
		return call{name: name, method: "POST", path: path, body: body, status: status}
	}
	bad := func(name, path, body string, status int, kind, part string) call {
		return call{name: name, method: "POST", path: path, body: body, status: status, kind: kind, part: part}
	}
	get := func(name, path string, status int, exact string) call {
		return call{name: name, method: "GET", path: path, status: status, exact: exact}
	}
	query := func(name, path, body, exact string) call {
		return call{name: name, method: "POST", path: path, body: body, status: 200, exact: exact}
	}
	const none = `"embeddings":null,"documents":null,"uris":null,"metadatas":null`
	return []call{
		get("health", "/healthcheck", 200, `{"is_executor_ready":true,"is_log_client_ready":true}`),
		get("version", "/version", 200, `"1.0.0"`),
		get("pre-flight", "/pre-flight-checks", 200, `{"max_batch_size":5461,"supports_base64_encoding":true}`),
		get("identity", "/auth/identity", 200, `{"user_id":"","tenant":"default_tenant","databases":["default_database"]}`),
		get("unknown route", "/nope", 404, ""),
		{name: "wrong method", method: "PUT", path: "/heartbeat", body: "{}", status: 405},
		bad("reset", "/reset", "", 403, "ChromaError", "Reset is disabled by config"),
		get("no database", "/tenants/default_tenant/databases/absent/collections", 200, `[]`),
		bad("create in no database", "/tenants/default_tenant/databases/absent/collections", `{"name":"abc"}`, 400, "InvalidArgumentError", "Database [absent] does not exist"),
		bad("exists", db, `{"name":"vec-l2"}`, 409, "ChromaError", "Collection [vec-l2] already exists"),
		bad("bad space", db, `{"name":"vec-bad","configuration":{"hnsw":{"space":"euclid"}}}`, 422, "ChromaError", "unknown variant `euclid`"),
		bad("unknown hnsw key", db, `{"name":"vec-unk","configuration":{"hnsw":{"M":16}}}`, 422, "ChromaError", "configuration.hnsw"),
		bad("both indexes", db, `{"name":"vec-both","configuration":{"hnsw":{"space":"l2"},"spann":{"space":"l2"}}}`, 400, "InvalidArgumentError", "Multiple vector index"),
		bad("short name", db, `{"name":"ab"}`, 400, "InvalidArgumentError", "Expected a name containing 3-512 characters"),
		bad("long name", db, `{"name":"`+strings.Repeat("a", 513)+`"}`, 400, "InvalidArgumentError", "Expected a name containing 3-512 characters"),
		bad("bad name", db, `{"name":"a b/c"}`, 400, "InvalidArgumentError", "Expected a name containing 3-512 characters"),
		bad("no name", db, `{}`, 422, "ChromaError", "missing field `name`"),
		{name: "missing", method: "GET", path: db + "/absent", status: 404, kind: "NotFoundError", part: "Collection [absent] does not exist"},
		get("count of collections", "/tenants/default_tenant/databases/default_database/collections_count", 200, `3`),
		get("empty count", db+"/{l2}/count", 200, `0`),
		query("query before any record", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":2,"include":["distances"]}`, `{"ids":[[]],`+none+`,"distances":[[]],"include":["distances"]}`),
		{name: "add json", method: "POST", path: db + "/{l2}/add", body: `{"ids":["a","b","c"],"embeddings":[[1,2,3],[1,2,3.5],[4,5,6.5]]}`, status: 201, exact: `{}`},
		post("add base64", db+"/{l2}/add", `{"ids":["d","e"],"embeddings":["AACAvwAAAAAAAIA+","AAAAAAAAAAAAAAAA"]}`, 201),
		get("count", db+"/{l2}/count", 200, `5`),
		post("existing id is ignored", db+"/{l2}/add", `{"ids":["a"],"embeddings":[[9,9,9]]}`, 201),
		post("duplicate in a batch", db+"/{l2}/add", `{"ids":["f","f"],"embeddings":[[7,7,7],[8,8,8]]}`, 201),
		query("the first stays", db+"/{l2}/get", `{"ids":["f","a"],"include":["embeddings"]}`, `{"ids":["a","f"],"embeddings":[[1,2,3],[7,7,7]],"documents":null,"uris":null,"metadatas":null,"include":["embeddings"]}`),
		get("count is not of answers", db+"/{l2}/count", 200, `6`),
		bad("mixed encodings", db+"/{l2}/add", `{"ids":["m1","m2"],"embeddings":[[1,2,3],"AACAPwAAAEAAAEBA"]}`, 422, "ChromaError", "EmbeddingsPayload"),
		bad("dimension", db+"/{l2}/add", `{"ids":["g"],"embeddings":[[1,2]]}`, 400, "InvalidArgumentError", "Collection expecting embedding with dimension of 3, got 2"),
		bad("ragged", db+"/{l2}/add", `{"ids":["g","h"],"embeddings":[[1,2,3],[1,2]]}`, 400, "InvalidArgumentError", "Inconsistent dimensions"),
		bad("lengths", db+"/{l2}/add", `{"ids":["g","h"],"embeddings":[[1,2,3]]}`, 400, "InvalidArgumentError", "Inconsistent number of IDs"),
		bad("empty id", db+"/{l2}/add", `{"ids":[""],"embeddings":[[1,2,3]]}`, 400, "InvalidArgumentError", "Empty ID"),
		post("empty batch", db+"/{l2}/add", `{"ids":[],"embeddings":[]}`, 201),
		bad("null embeddings", db+"/{l2}/add", `{"ids":["g"],"embeddings":null}`, 422, "ChromaError", "EmbeddingsPayload"),
		bad("NaN", db+"/{l2}/add", `{"ids":["g"],"embeddings":[[NaN,1,2]]}`, 400, "InvalidArgumentError", "Failed to parse the request body as JSON"),
		bad("overflow", db+"/{l2}/add", `{"ids":["g"],"embeddings":[[1e39,1,2]]}`, 400, "InvalidArgumentError", "must not contain NaN or Infinity"),
		bad("base64 NaN", db+"/{l2}/add", `{"ids":["n"],"embeddings":["AADAfwAAgD8AAABA"]}`, 400, "InvalidArgumentError", "Non-finite float value at embedding index 0: NaN"),
		bad("bad base64", db+"/{l2}/add", `{"ids":["g"],"embeddings":["@@@"]}`, 400, "InvalidArgumentError", "Invalid base64 string"),
		bad("short base64", db+"/{l2}/add", `{"ids":["g"],"embeddings":["AAAA"]}`, 400, "InvalidArgumentError", "Invalid byte length: 3 bytes"),
		bad("cut JSON", db+"/{l2}/add", `{"ids":["g"],"embed`, 400, "InvalidArgumentError", "Failed to parse the request body as JSON"),
		bad("unknown collection", db+"/00000000-0000-4000-8000-000000000000/add", `{"ids":["g"],"embeddings":[[1,2,3]]}`, 404, "NotFoundError", "Collection [00000000-0000-4000-8000-000000000000] does not exist."),
		bad("name for a uuid", db+"/vec-l2/add", `{"ids":["g"],"embeddings":[[1,2,3]]}`, 400, "InvalidArgumentError", "Collection ID is not a valid UUIDv4"),
		get("nothing of these was stored", db+"/{l2}/count", 200, `6`),
		query("query", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":3,"include":["distances"]}`, `{"ids":[["a","b","e"]],`+none+`,"distances":[[0,0.25,14]],"include":["distances"]}`),
		query("query of ids only", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":2,"include":[]}`, `{"ids":[["a","b"]],`+none+`,"distances":null,"include":[]}`),
		query("defaults", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":1}`, `{"ids":[["a"]],"embeddings":null,"documents":[[null]],"uris":null,"metadatas":[[null]],"distances":[[0]],"include":["documents","metadatas","distances"]}`),
		query("two queries", db+"/{l2}/query", `{"query_embeddings":[[1,2,3],[7,7,7]],"n_results":1,"include":["distances"]}`, `{"ids":[["a"],["f"]],`+none+`,"distances":[[0],[0]],"include":["distances"]}`),
		query("more than there are", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":1000000,"include":[]}`, `{"ids":[["a","b","e","d","c","f"]],`+none+`,"distances":null,"include":[]}`),
		query("none", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":0,"include":[]}`, `{"ids":[[]],`+none+`,"distances":null,"include":[]}`),
		query("unknown field", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":1,"include":[],"ef":5}`, `{"ids":[["a"]],`+none+`,"distances":null,"include":[]}`),
		bad("query dimension", db+"/{l2}/query", `{"query_embeddings":[[1,2]],"n_results":2}`, 400, "InvalidArgumentError", "Collection expecting embedding with dimension of 3, got 2"),
		bad("base64 query", db+"/{l2}/query", `{"query_embeddings":["AACAPwAAAEAAAEBA"],"n_results":2}`, 422, "ChromaError", "Failed to deserialize"),
		bad("negative k", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":-1}`, 422, "ChromaError", "Failed to deserialize"),
		bad("query of unknown collection", db+"/00000000-0000-4000-8000-000000000000/query", `{"query_embeddings":[[1,2,3]]}`, 404, "NotFoundError", "does not exist."),
		post("cosine add", db+"/{cosine}/add", `{"ids":["a","c","z"],"embeddings":[[3,0,4],[-3,0,-4],[0,0,0]]}`, 201),
		query("cosine", db+"/{cosine}/query", `{"query_embeddings":[[3,0,4]],"n_results":3,"include":[]}`, `{"ids":[["a","z","c"]],`+none+`,"distances":null,"include":[]}`),
		post("ip add", db+"/{ip}/add", `{"ids":["a","b","c","z"],"embeddings":[[1,2,3],[2,4,6],[-1,0,0.25],[0,0,0]]}`, 201),
		query("ip", db+"/{ip}/query", `{"query_embeddings":[[1,2,3]],"n_results":4,"include":["distances"]}`, `{"ids":[["b","a","z","c"]],`+none+`,"distances":[[-27,-13,1,1.25]],"include":["distances"]}`),
		query("delete counts what was asked", db+"/{l2}/delete", `{"ids":["b","zz"]}`, `{"deleted":2}`),
		get("count after delete", db+"/{l2}/count", 200, `5`),
		query("deleted is not found", db+"/{l2}/query", `{"query_embeddings":[[1,2,3]],"n_results":2,"include":[]}`, `{"ids":[["a","e"]],`+none+`,"distances":null,"include":[]}`),
		{name: "drop", method: "DELETE", path: db + "/vec-ip", status: 200, exact: `{}`},
		{name: "drop again", method: "DELETE", path: db + "/vec-ip", status: 404, kind: "NotFoundError", part: "Collection [vec-ip] does not exist"},
		{name: "drop by uuid", method: "DELETE", path: db + "/{cosine}", status: 404, kind: "NotFoundError", part: "does not exist"},
		get("two are left", "/tenants/default_tenant/databases/default_database/collections_count", 200, `2`),
	}
}

func conform(t *testing.T, base string) {
	t.Helper()
	// Chroma has more in its answer to create (schema); what a client compares
	// must be there in both.
	ids := map[string]string{}
	for _, c := range []struct{ name, space, conf string }{
		{"vec-l2", "l2", `{"hnsw":{"space":"l2","ef_construction":200,"max_neighbors":32,"ef_search":50,"sync_threshold":500}}`},
		{"vec-cosine", "cosine", `{"hnsw":{"space":"cosine"}}`},
		{"vec-ip", "ip", `{"hnsw":{"space":"ip"}}`},
	} {
		status, _, body := do(t, "POST", base+"/api/v2"+db, `{"name":"`+c.name+`","configuration":`+c.conf+`}`, "application/json")
		var doc struct {
			ID        string
			Name      string
			Dimension *int
			Tenant    string
			Database  string
			Conf      struct {
				HNSW map[string]any
			} `json:"configuration_json"`
		}
		if err := json.Unmarshal(body, &doc); err != nil || status != 200 {
			t.Fatalf("create %s: %d %s", c.name, status, body)
		}
		want := map[string]any{"space": c.space, "ef_construction": 100.0, "ef_search": 100.0, "max_neighbors": 16.0, "resize_factor": 1.2, "sync_threshold": 1000.0}
		if c.space == "l2" {
			want["ef_construction"], want["max_neighbors"], want["ef_search"], want["sync_threshold"] = 200.0, 32.0, 50.0, 500.0
		}
		if diff := cmp.Diff(want, doc.Conf.HNSW); diff != "" || doc.Name != c.name || doc.Dimension != nil || doc.Tenant != "default_tenant" || doc.Database != "default_database" {
			t.Fatalf("create %s: %s %+v", c.name, diff, doc)
		}
		ids[c.space] = doc.ID
	}
	fill := strings.NewReplacer("{l2}", ids["l2"], "{cosine}", ids["cosine"], "{ip}", ids["ip"])
	for i, c := range story() {
		status, h, body := do(t, c.method, base+"/api/v2"+fill.Replace(c.path), c.body, "application/json")
		at := fmt.Sprintf("%d %s: %s", i, c.name, body)
		if status != c.status {
			t.Errorf("%s: status %d, want %d", at, status, c.status)
			continue
		}
		if c.kind != "" {
			var e struct{ Error, Message string }
			if err := json.Unmarshal(body, &e); err != nil || e.Error != c.kind || !strings.Contains(e.Message, c.part) {
				t.Errorf("%s: want error %q with %q", at, c.kind, c.part)
			}
			if h.Get("Chroma-Trace-Id") == "" {
				t.Errorf("%s: no trace id", at)
			}
		}
		if c.exact != "" {
			equalJSON(t, at, c.exact, body)
		}
	}
	// Outside of the story: content types, the old API, a missing page.
	if status, _, _ := do(t, "POST", base+"/api/v2"+db+"/"+ids["l2"]+"/add", "a=b", "application/x-www-form-urlencoded"); status != 415 {
		t.Errorf("a form: status %d, want 415", status)
	}
	if status, _, _ := do(t, "POST", base+"/api/v2"+db+"/"+ids["l2"]+"/add", `{"ids":["y"],"embeddings":[[1,2,3]]}`, ""); status != 201 {
		t.Errorf("no content type: status %d, want 201", status)
	}
	status, _, body := do(t, "GET", base+"/api/v1/heartbeat", "", "")
	equalJSON(t, "v1", `{"error":"Unimplemented","message":"The v1 API is deprecated. Please use /v2 apis"}`, body)
	if status != 410 {
		t.Errorf("v1: status %d, want 410", status)
	}
	big := `{"ids":["big"],"embeddings":["` + strings.Repeat("A", 40<<20) + `"]}`
	if status, _, body := do(t, "POST", base+"/api/v2"+db+"/"+ids["l2"]+"/add", big, "application/json"); status != 413 || string(body) != "Payload too large" {
		t.Errorf("40 MiB and more: status %d %.80s", status, body)
	}
}

func do(t *testing.T, method, url, body, kind string) (int, http.Header, []byte) {
	t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, rd)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" && body != "" {
		req.Header.Set("Content-Type", kind)
	}
	req.Close = true
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	got, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	return resp.StatusCode, resp.Header, got
}

func equalJSON(t *testing.T, at, want string, got []byte) {
	t.Helper()
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Errorf("%s: no JSON", at)
		return
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s: %s", at, diff)
	}
}

// startReal starts the lab's Chroma, or skips the test loudly.
func startReal(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("AIFBENCH_CACHE")
	if cache == "" {
		t.Skip("SKIP-LAB: AIFBENCH_CACHE is not set; no real Chroma to test against")
	}
	binary := filepath.Join(cache, "chroma", "bin", "chroma")
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("SKIP-LAB: no real Chroma: %v", err)
	}
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("persist_path: %q\nlisten_address: \"127.0.0.1\"\nport: %s\n", filepath.Join(dir, "data"), port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", config)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "RUST_LOG=off"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v2/healthcheck", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			return "http://" + addr
		}
		select {
		case <-done:
			t.Fatal("the real Chroma ended at once")
		case <-ctx.Done():
			t.Fatal("the real Chroma is not ready after 60 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
