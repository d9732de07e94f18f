package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// TestEndpointFaults: a server that is dead, refuses the key, only fails, or
// dies under load is never success, and the result names the class.
func TestEndpointFaults(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	// Answers what bench asks before it begins, and nothing else.
	listing := `{"object":"list","data":[{"id":"m","object":"model"}]}`
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, listing) // the client's loss shows in its result
			return
		}
		http.Error(w, "<script>alert(1)</script>\x1b[31mno", http.StatusInternalServerError)
	}))
	defer failing.Close()
	var served atomic.Int64
	var dying *httptest.Server
	dying = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, listing)
			return
		}
		if served.Add(1) == 15 {
			go func() { _ = dying.Listener.Close() }() // and no connection is left open
		}
		if served.Load() >= 15 {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2,\"total_tokens\":6}}\n\ndata: [DONE]\n\n")
	}))
	defer dying.Close()
	sim := d.fast()
	ep, err := sim.ReadEndpoint()
	if err != nil {
		t.Fatal(err)
	}
	wrongKey := d.write("wrong.key", "not-the-key\n", 0o600)
	for _, tt := range []struct {
		name  string
		args  []string
		class string // of the failures, "" where there was nothing to begin with
	}{
		{"dead", []string{"--endpoint", dead}, ""},
		{"dead, model known", []string{"--endpoint", dead, "--model", "m"}, "connect_refused"},
		{"wrong key", []string{"--endpoint", ep.LocalURL, "--key-file", wrongKey}, "http_401"},
		{"no key", []string{"--endpoint", ep.LocalURL}, "http_401"},
		{"all fail", []string{"--endpoint", failing.URL, "--model", "m"}, "http_500"},
		{"dies under load", []string{"--endpoint", dying.URL, "--model", "m"}, "connect_refused"},
	} {
		s := d.must(9, append([]string{"bench", "vllm", "--requests", "40", "--concurrency", "2", "--output-len", "2", "--input-len", "4", "--connect-timeout", "2s", "-o", "json"}, tt.args...)...)
		said := s.out + s.err
		if strings.Contains(s.err, "\x1b") || strings.Contains(s.out, "\x1b") {
			t.Errorf("%s: a control character of the server reached the terminal: %q", tt.name, s.err)
		}
		if tt.class != "" && !strings.Contains(said, tt.class) && !strings.Contains(said, strings.TrimPrefix(tt.class, "http_")) {
			t.Errorf("%s: nothing names %s:\n%s", tt.name, tt.class, said)
		}
		if _, ok := only[map[string]any](t, s)["verdict"]; ok {
			r := only[result.Result](t, s)
			if r.Verdict.Status == result.Valid || len(r.Verdict.Reasons) == 0 {
				t.Errorf("%s: verdict %+v", tt.name, r.Verdict)
			}
			if f := r.Figures["ttft_p50_ms"]; f.Value != nil && tt.name != "dies under load" {
				t.Errorf("%s: a figure of failed requests: %+v", tt.name, f)
			}
		} else if e := only[wrong](t, s); e.Error.Code != 9 || e.Error.Message == "" {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
	// Chroma: the same.
	d.fails9(t, "bench", "chroma", "--endpoint", dead, "--vectors", "50", "--dimension", "4", "--duration", "0s")
	d.fails9(t, "bench", "chroma", "--endpoint", failing.URL, "--vectors", "50", "--dimension", "4", "--duration", "0s")
	// A password in the address is refused before anything is made, and is not repeated.
	before := len(d.made("vllm-bench"))
	for _, u := range []string{"http://user:canary-pw@127.0.0.1:1", "http://canary-pw@127.0.0.1:1", "http://user:canary pw@127.0.0.1:1", "http://127.0.0.1:1/?api_key=canary-pw", "http://user:canary-pw@127.0.0.1:bad"} {
		s := d.must(2, "bench", "vllm", "--endpoint", u, "-o", "json")
		if strings.Contains(s.out+s.err, "canary") {
			t.Errorf("%s: repeated: %s%s", u, s.out, s.err)
		}
		if strings.Contains(u, "?") {
			continue // a Prometheus behind a gateway may need one; nothing of it is kept
		}
		s = d.must(2, "metrics", "vllm", "--prometheus-url", u, "-o", "json")
		if strings.Contains(s.out+s.err, "canary") {
			t.Errorf("--prometheus-url %s: repeated: %s%s", u, s.out, s.err)
		}
	}
	if after := len(d.made("vllm-bench")); after != before {
		t.Errorf("%d runs were made for refused addresses", after-before)
	}
	open := d.write("open.key", "k\n", 0o644)
	if w := d.fails(2, "bench", "vllm", "--endpoint", dead, "--key-file", open); !strings.Contains(w.Error.Advice, "chmod 600") {
		t.Errorf("%+v", w)
	}
}

// fails9 demands a failed bench: exit 9 and one document.
func (d *desk) fails9(t *testing.T, args ...string) {
	t.Helper()
	only[map[string]any](t, d.must(9, append(args, "-o", "json")...))
}

// TestServiceDiesDuringLoad: the engine of a started run ends while it is
// loaded; the bench ends too, as failed, and check tells the cause.
func TestServiceDiesDuringLoad(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	run := d.fast()
	cmd := d.command("bench", "vllm", "--duration", "1m", "--output-len", "4", "-o", "json")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.until("the generator begins", func() bool { return d.measuring() })
	killed := 0
	for _, pid := range processesWith(t, run.Path, "sim") {
		if p, err := os.FindProcess(pid); err == nil && p.Kill() == nil {
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("%d engines were killed", killed)
	}
	_ = cmd.Wait() // judged by its code
	s := said{cmd.Args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if s.code != 9 {
		t.Errorf("exit %d\n%s%s", s.code, s.out, s.err)
	}
	only[map[string]any](t, s)
	d.must(0, "wait", run.ID(), "--for", "ended", "--timeout", "1m")
	rows := asks[labRows](d, 9, "check", "vllm")
	if len(rows.Runs) != 1 || !strings.Contains(rows.Runs[0].Why, "vllm") && !strings.Contains(rows.Runs[0].Why, "engine") {
		t.Errorf("why: %+v", rows)
	}
	d.fails(3, "bench", "vllm")
}

// processesWith finds processes whose command line holds every word.
func processesWith(t *testing.T, words ...string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
next:
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || strings.Trim(e.Name(), "0123456789") != "" {
			continue
		}
		for _, w := range words {
			if !strings.Contains(string(raw), w) {
				continue next
			}
		}
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// TestPrometheusFaults: what `metrics` makes of servers that are no help.
func TestPrometheusFaults(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	answers := map[string]struct {
		status int
		media  string
		body   string
	}{
		"/unavailable":  {503, "text/plain", "Service Unavailable"},
		"/html":         {200, "text/html", "<html><script>alert('\x1b[31m')</script></html>"},
		"/nan":          {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"x","evil":"\u001b[31m</script>"},"value":[1767225600,"NaN"]},{"metric":{"__name__":"y"},"value":[1767225600,"+Inf"]}]}}`},
		"/warnings":     {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store is \u001b[31mincomplete"],"infos":["look here"]}`},
		"/bad-query":    {400, "application/json", `{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}`},
		"/denied":       {401, "text/plain", "Unauthorized"},
		"/not-json":     {200, "application/json", `{"status":`},
		"/null":         {200, "application/json", `null`},
		"/redirect":     {302, "text/plain", "elsewhere"},
		"/wrong-type":   {200, "application/json", `{"status":"success","data":{"resultType":"surprise","result":{}}}`},
		"/nothing-here": {404, "text/plain", "404 page not found"},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for path, a := range answers {
			if strings.HasPrefix(r.URL.Path, path+"/") {
				w.Header().Set("Content-Type", a.media)
				if a.status == 302 {
					w.Header().Set("Location", "http://127.0.0.1:1/canary")
				}
				w.WriteHeader(a.status)
				_, _ = io.WriteString(w, a.body)
				return
			}
		}
		http.NotFound(w, r)
	}))
	defer srv.Close()
	for path, want := range map[string]struct {
		code  int
		retry bool
		says  string
	}{
		"/unavailable": {8, true, "not ready"}, "/html": {8, false, "HTML instead of JSON"}, "/bad-query": {2, false, "parse error"}, "/denied": {8, false, "refused the key"},
		"/not-json": {8, false, "not JSON"}, "/null": {8, false, "not a Prometheus answer"}, "/redirect": {8, false, "redirects"}, "/wrong-type": {8, false, "surprise"}, "/nothing-here": {8, false, "no query API"},
	} {
		for _, more := range [][]string{{"--query", "up"}, {"--query", "up", "--step", "10s"}, nil} {
			if more == nil && (want.code == 2 || path == "/not-json" || path == "/null" || path == "/wrong-type") {
				continue // a summary tells what is wrong with one question in its row
			}
			w := d.fails(want.code, append([]string{"metrics", "vllm", "--prometheus-url", srv.URL + path, "--last", "1m"}, more...)...)
			if !strings.Contains(w.Error.Message, want.says) || w.Error.Retryable != want.retry {
				t.Errorf("%s %v: %+v; want %q", path, more, w, want.says)
			}
		}
	}
	if s := d.must(8, "metrics", "vllm", "--prometheus-url", srv.URL+"/html", "--query", "up"); strings.Contains(s.out+s.err, "\x1b") {
		t.Errorf("a control character of the server reached the terminal: %q", s.err)
	}
	absent := d.fails(8, "metrics", "vllm", "--prometheus-url", "http://127.0.0.1:1", "--query", "up")
	if !absent.Error.Retryable || absent.Error.Layer != "network" {
		t.Errorf("absent: %+v", absent)
	}
	nan := d.must(0, "metrics", "vllm", "--prometheus-url", srv.URL+"/nan", "--query", "up", "-o", "json")
	only[map[string]any](t, nan)
	if !strings.Contains(nan.out, "NaN") {
		t.Errorf("a NaN was lost: %s", nan.out)
	}
	shown := d.must(0, "metrics", "vllm", "--prometheus-url", srv.URL+"/nan", "--query", "up")
	if strings.Contains(shown.out, "\x1b") || !strings.Contains(shown.out, "NaN") {
		t.Errorf("table: %q", shown.out)
	}
	// A summary of NaN, or of answers that cannot be read, is null with a
	// reason, never a number.
	for _, path := range []string{"/nan", "/not-json", "/null", "/wrong-type", "/bad-query", "/warnings"} {
		sum := only[promq.Summary](t, d.must(0, "metrics", "vllm", "--prometheus-url", srv.URL+path, "--last", "1m", "-o", "json"))
		if len(sum.Rows) == 0 {
			t.Errorf("%s: a summary without rows", path)
		}
		for _, r := range sum.Rows {
			if r.Value != nil || r.Reason == "" {
				t.Errorf("%s: %s: %+v", path, r.Name, r)
			}
		}
	}
	warned := d.must(0, "metrics", "vllm", "--prometheus-url", srv.URL+"/warnings", "--query", "up")
	if !strings.Contains(warned.out+warned.err, "incomplete") || strings.Contains(warned.out+warned.err, "\x1b") || !strings.Contains(warned.err, "no series") {
		t.Errorf("warnings: %q %q", warned.out, warned.err)
	}
	if raw := d.must(0, "metrics", "vllm", "--prometheus-url", srv.URL+"/warnings", "--query", "up", "-o", "json"); !strings.Contains(raw.out, "incomplete") {
		t.Errorf("warnings are not in the document: %s", raw.out)
	}
}

// TestUnreadableRuns: what is half written, truncated or foreign is named and
// kept, and every other run goes on.
func TestUnreadableRuns(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	good := d.fast()
	bad := map[string]func(dir string) error{
		"chroma-20260101-000000-aaaa": func(string) error { return nil }, // empty
		"chroma-20260101-000001-aaaa": func(dir string) error { // truncated
			return os.WriteFile(filepath.Join(dir, runs.IntentFile), []byte(`{"schema_version":1,"id":"chro`), 0o600)
		},
		"chroma-20260101-000002-aaaa": func(dir string) error { return os.Mkdir(filepath.Join(dir, runs.IntentFile), 0o700) }, // cannot be read
		"chroma-20260101-000003-aaaa": func(dir string) error { // another run's
			raw, err := os.ReadFile(good.File(runs.IntentFile))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, runs.IntentFile), raw, 0o600)
		},
		"chroma-20260101-000004-aaaa": func(dir string) error { // of a newer program
			return os.WriteFile(filepath.Join(dir, runs.IntentFile), []byte(`{"schema_version":99,"id":"chroma-20260101-000004-aaaa","surprise":1}`), 0o600)
		},
		"chroma-20260101-000005-aaaa": func(dir string) error { // trailing text
			return os.WriteFile(filepath.Join(dir, runs.IntentFile), []byte(`{"schema_version":1,"id":"chroma-20260101-000005-aaaa"} {}`), 0o600)
		},
	}
	for id, spoil := range bad {
		dir := filepath.Join(d.home, "runs", id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
	}
	rows := asks[labRows](d, 8, "check", "all")
	named := 0
	for _, r := range rows.Runs {
		if _, ok := bad[r.Run]; ok {
			named++
			if r.State != "DAMAGED" || r.Code != 8 || r.Why == "" {
				t.Errorf("%+v", r)
			}
		} else if r.Run != good.ID() || !r.Ready {
			t.Errorf("the good run: %+v", r)
		}
	}
	if named != len(bad) {
		t.Errorf("%d of %d damaged runs are named: %+v", named, len(bad), rows)
	}
	asks[labRows](d, 0, "check", "vllm")
	asks[labRows](d, 0, "list")
	for id := range bad {
		if w := d.fails(8, "show", id); !strings.Contains(w.Error.Message, id) {
			t.Errorf("show %s: %+v", id, w)
		}
		d.fails(8, "logs", id)
		d.fails(8, "wait", id)
		d.fails(8, "save", id)
		d.fails(8, "stop", "chroma", "--run", id)
	}
	// Every other run's verbs go on.
	asks[result.Result](d, 0, "bench", "vllm", "--requests", "30", "--output-len", "2")
	asks[map[string]any](d, 0, "clean", "--older-than", "1s")
	asks[stopped](d, 0, "stop", "all")
	for id := range bad {
		if _, err := os.Stat(filepath.Join(d.home, "runs", id)); err != nil {
			t.Errorf("%s was lost: %v", id, err)
		}
	}
	// A half-written journal, endpoint and sentinel: the rest still counts.
	second := d.fast()
	for _, p := range []string{second.File(runs.JournalDir, "00000000000000000001-h-1-1-observed.json"), second.File(runs.SentinelDir, "zz.json")} {
		if err := os.WriteFile(p, []byte(`{"kind":`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown := asks[labRows](d, 0, "check", "vllm")
	if len(shown.Runs) != 1 || !shown.Runs[0].Ready {
		t.Errorf("%+v", shown)
	}
	if s := d.must(0, "show", second.ID()); !strings.Contains(s.out, "problem: ") {
		t.Errorf("show does not tell of the spoilt files:\n%s", s.out)
	}
	if err := os.WriteFile(second.File(runs.EndpointFile), []byte(`{"schema_version":1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := d.run("bench", "vllm", "-o", "json"); s.code != 5 && s.code != 8 {
		t.Errorf("bench with a torn endpoint: exit %d\n%s%s", s.code, s.out, s.err)
	}
}
