package node

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestDoorRefusesWhoHasNoKey(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	paths := []string{"/", "/metrics", "/engine/vllm/health", "/engine/", "/otlp/v1/metrics", "/tunnel/otlp", "/-/healthy", "/nothing", "/../metrics", "/engine/%2e%2e/"}
	auths := []string{"", "Bearer", "Bearer ", "Bearer wrong", "Bearer " + b.key() + "x", "Bearer " + b.key()[1:], "Basic " + b.key(), b.key(), "Bearer " + strings.ToUpper(b.key()) + " "}
	for _, p := range paths {
		for _, a := range auths {
			code, body, header := b.get(ep.DoorURL+p, a)
			if code != http.StatusUnauthorized || body != "" {
				t.Errorf("GET %s with %.12q: %d %q", p, a, code, body)
			}
			header.Del("Date")
			if d := cmp.Diff(http.Header{"Content-Length": {"0"}}, header, cmp.Options{}); d != "" && header.Get("Connection") == "" {
				t.Errorf("GET %s tells: %s", p, d)
			}
		}
	}
	req, err := http.NewRequest(http.MethodGet, ep.DoorURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = []string{"Bearer wrong", "Bearer " + b.key()}
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("two headers, one right: %d", resp.StatusCode)
	}
}

func TestDoorServesMetricsAndEngine(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	auth := "Bearer " + b.key()
	code, body, header := b.get(ep.DoorURL+"/metrics", auth)
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v", code, header)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			got := map[string]string{}
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			if got["run"] != b.cfg.Dir.ID() || got["service"] != "vllm" || got["node"] != "testnode" {
				t.Fatalf("%s has labels %v", name, got)
			}
		}
	}
	if families["aifbench_node_memory_total_bytes"] == nil {
		t.Error("no memory of the node")
	}
	for path, want := range map[string]string{
		"/engine/vllm/metrics": "engine_up 1\n", "/engine/metrics": "engine_up 1\n", "/engine/vllm/v1/models": `{"data":[{"id":"tiny"}]}`,
	} {
		if code, body, _ := b.get(ep.DoorURL+path, auth); code != 200 || body != want {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	req, err := http.NewRequest(http.MethodPost, ep.DoorURL+"/engine/vllm/echo/a%2Fb%20c?x=%24(y)", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", auth)
	req.Header.Set("Cookie", "secret=1")
	req.Header.Set("X-Test", "kept")
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var echo struct {
		Path, Query, Host, Body string
		Header                  http.Header
	}
	if err := json.NewDecoder(resp.Body).Decode(&echo); err != nil {
		t.Fatal(err)
	}
	if echo.Path != "/echo/a%2Fb%20c" || echo.Query != "x=%24(y)" || echo.Body != "body" || "http://"+echo.Host != ep.LocalURL {
		t.Errorf("the engine saw %+v", echo)
	}
	if echo.Header.Get("Cookie") != "" || echo.Header.Get("X-Test") != "kept" || echo.Header.Get("Authorization") != auth {
		t.Errorf("the engine's headers: %v", echo.Header)
	}
	if code, _, _ := b.get(ep.DoorURL+"/nothing", auth); code != 404 {
		t.Errorf("unknown path: %d", code)
	}
	if code, _, _ := b.get(ep.DoorURL+"/otlp/v1/metrics", auth); code != 404 {
		t.Errorf("OTLP without a Collector: %d", code)
	}
	if code, _, _ := b.get(ep.DoorURL+"/tunnel/otlp", auth); code != 404 {
		t.Errorf("tunnel without a Collector: %d", code)
	}
}

// An engine that checks no key must not get ours from a caller.
func TestDoorKeepsTheKeyFromAnEngineThatWantsNone(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.cfg.Plan.Procs[0].SendKey = false
	b.cfg.Plan.Procs[0].Ready.Model = ""
	b.start()
	ep := b.ready()
	if code, body, _ := b.get(ep.DoorURL+"/engine/echo/", "Bearer "+b.key()); code != 200 || strings.Contains(body, b.key()) {
		t.Errorf("%d %s", code, body)
	}
}

// The first part of a stream arrives while the engine still holds back the second.
func TestDoorFlushesStreams(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	req, err := http.NewRequest(http.MethodGet, ep.DoorURL+"/engine/vllm/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.key())
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); line != "first\n" {
		t.Fatalf("%q %v", line, err)
	}
	b.get(ep.LocalURL+"/release", "")
	if line, err := r.ReadString('\n'); line != "second\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestEngineOnASocket(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.cfg.Plan.Procs[0].Socket = true
	b.start()
	ep := b.ready()
	if ep.LocalURL != "" {
		t.Errorf("local %q", ep.LocalURL)
	}
	if code, body, _ := b.get(ep.DoorURL+"/engine/vllm/metrics", "Bearer "+b.key()); code != 200 || body != "engine_up 1\n" {
		t.Errorf("%d %q", code, body)
	}
}

func TestNodeAddr(t *testing.T) {
	t.Parallel()
	if a := nodeAddr(t.Context(), nil, true); a.String() != "127.0.0.1" {
		t.Errorf("local scheduler: %v", a)
	}
	a := nodeAddr(t.Context(), []string{"localhost", "no-such-host.invalid"}, false)
	ln, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatalf("%v is not an address of this machine: %v", a, err)
	}
	ln.Close()
}
