package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.TTFT == 0 {
		cfg.TTFT, cfg.ITL = time.Microsecond, time.Microsecond
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func do(s *Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	return rec
}

func events(body string) []string {
	var out []string
	for _, e := range strings.Split(body, "\n\n") {
		if data, ok := strings.CutPrefix(e, "data: "); ok {
			out = append(out, data)
		}
	}
	return out
}

func TestKeyGuardsEveryPath(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, Config{KeyFile: file})
	for _, path := range []string{"/health", "/ping", "/version", "/metrics", "/tokenize", "/v1/models", "/v1/completions", "/v1/chat/completions", "/nope", "/"} {
		for _, auth := range []string{"", "Bearer wrong", "Bearer ", "right", "Basic right", "bearer right", "Bearer right "} {
			rec := do(s, http.MethodGet, path, "", "Authorization", auth)
			if rec.Code != http.StatusUnauthorized || strings.TrimSpace(rec.Body.String()) != `{"error":"Unauthorized"}` {
				t.Errorf("%s with %q: %d %s", path, auth, rec.Code, rec.Body)
			}
		}
		if rec := do(s, http.MethodGet, path, "", "Authorization", "Bearer right"); rec.Code == http.StatusUnauthorized {
			t.Errorf("%s with the key: %d", path, rec.Code)
		}
	}
	if _, err := New(Config{KeyFile: file + ".not"}); err == nil {
		t.Error("a missing key file leaves the server open")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{KeyFile: file}); err == nil {
		t.Error("an empty key file leaves the server open")
	}
}

func TestItNamesItself(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for path, body := range map[string]string{"/v1/completions": `{"prompt":"a","max_tokens":2}`, "/v1/chat/completions": `{"messages":[{"role":"user","content":"a"}],"max_tokens":2}`} {
		rec := do(s, http.MethodPost, path, body)
		if rec.Code != 200 || rec.Header().Get("Server") != Name || !strings.Contains(rec.Body.String(), `"system_fingerprint":"aifbench-sim"`) {
			t.Errorf("%s: %v %s", path, rec.Header(), rec.Body)
		}
	}
	if body := do(s, http.MethodGet, "/v1/models", "").Body.String(); !strings.Contains(body, `"owned_by":"aifbench-sim"`) {
		t.Error(body)
	}
}

func TestCompletionStream(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	rec := do(s, http.MethodPost, "/v1/completions", `{"prompt":[1,2,3],"max_tokens":3,"stream":true,"return_token_ids":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`)
	got := events(rec.Body.String())
	if len(got) != 5 || got[4] != "[DONE]" || rec.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Fatalf("%v %q", rec.Header(), got)
	}
	type event struct {
		Object  string `json:"object"`
		Choices []struct {
			Text         string  `json:"text"`
			FinishReason *string `json:"finish_reason"`
			TokenIDs     []int   `json:"token_ids"`
		} `json:"choices"`
		Usage map[string]int `json:"usage"`
	}
	for i, data := range got[:4] {
		var e event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			if len(e.Choices) != 0 || e.Usage["prompt_tokens"] != 3 || e.Usage["completion_tokens"] != 3 || e.Usage["total_tokens"] != 6 {
				t.Errorf("usage event %s", data)
			}
			continue
		}
		if e.Object != "text_completion" || len(e.Choices) != 1 || e.Choices[0].Text == "" || len(e.Choices[0].TokenIDs) != 1 || e.Usage["completion_tokens"] != i+1 {
			t.Errorf("event %d: %s", i, data)
		}
		if fin := e.Choices[0].FinishReason; (i == 2) != (fin != nil) || fin != nil && *fin != "length" {
			t.Errorf("event %d: finish %v", i, fin)
		}
	}
}

func TestChatStreamBeginsWithTheRole(t *testing.T) {
	t.Parallel()
	got := events(do(newServer(t, Config{}), http.MethodPost, "/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"max_completion_tokens":2,"stream":true}`).Body.String())
	if len(got) != 4 || !strings.Contains(got[0], `"delta":{"content":"","role":"assistant"}`) || strings.Contains(got[1], "role") || got[3] != "[DONE]" {
		t.Fatalf("%q", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Model: "tiny", MaxModelLen: 32, Vocab: 100})
	for name, c := range map[string]struct {
		body string
		code int
		says string
	}{
		"bad json":      {`{"prompt":`, 400, "json_invalid"},
		"unknown model": {`{"model":"nope","prompt":"x"}`, 404, "The model `nope` does not exist."},
		"too long":      {`{"prompt":[` + strings.Repeat("1,", 40) + `1]}`, 400, "maximum context length is 32"},
		"vocabulary":    {`{"prompt":[100]}`, 400, "Token id 100 is out of vocabulary"},
		"no prompt":     {`{}`, 400, "prompt"},
		"max tokens":    {`{"prompt":"x","max_tokens":0}`, 400, "max_tokens must be at least 1, got 0"},
		"options":       {`{"prompt":"x","stream_options":{}}`, 400, "Stream options can only be defined"},
		"temperature":   {`{"prompt":"x","temperature":-1}`, 400, "temperature"},
		"typo":          {`{"prompt":"x","structured_outputs":{"choices":["a"]}}`, 400, "one kind"},
		"two kinds":     {`{"prompt":"x","structured_outputs":{"choice":["a"],"regex":"a"}}`, 400, "one kind"},
		"schema":        {`{"prompt":"x","structured_outputs":{"json":{"type":"nonsense"}}}`, 400, "Grammar error: Invalid type: nonsense"},
		"regex":         {`{"prompt":"x","structured_outputs":{"regex":"[a-"}}`, 400, "Grammar error"},
		"grammar":       {`{"prompt":"x","structured_outputs":{"grammar":"root ::= ("}}`, 400, "Grammar error"},
	} {
		rec := do(s, http.MethodPost, "/v1/completions", c.body)
		var doc struct {
			Error struct {
				Message string `json:"message"`
				Code    int    `json:"code"`
			} `json:"error"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil || rec.Code != c.code || doc.Error.Code != c.code || !strings.Contains(doc.Error.Message, c.says) {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	// In a stream a refused constraint is an error inside a 200.
	rec := do(s, http.MethodPost, "/v1/completions", `{"prompt":"x","stream":true,"structured_outputs":{"json":{"type":"nonsense"}}}`)
	if got := events(rec.Body.String()); rec.Code != 200 || len(got) != 2 || !strings.HasPrefix(got[0], `{"error":`) || got[1] != "[DONE]" {
		t.Errorf("%d %q", rec.Code, got)
	}
	// Longer than the room is clamped without a word.
	if body := do(s, http.MethodPost, "/v1/completions", `{"prompt":[1,2],"max_tokens":1000}`).Body.String(); !strings.Contains(body, `"completion_tokens":30`) {
		t.Error(body)
	}
	if rec := do(s, http.MethodGet, "/v1/completions", ""); rec.Code != http.StatusMethodNotAllowed {
		t.Error(rec.Code)
	}
	if rec := do(s, http.MethodGet, "/v1/nope", ""); rec.Code != 404 || !strings.Contains(rec.Body.String(), `"detail"`) {
		t.Error(rec.Code, rec.Body)
	}
}

func TestConstraintsAreFollowed(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	re := regexp.MustCompile(`^(?:[a-z]{3}-[0-9]+(x|yy)?)$`)
	sql := regexp.MustCompile(`^SELECT [abc]+ FROM "t[12]"( LIMIT [0-9])*$`)
	for range 200 {
		text, err := fromRegex(`[a-z]{3}-[0-9]+(x|yy)?`, rng)
		if err != nil || !re.MatchString(text) {
			t.Fatalf("regex %q %v", text, err)
		}
		text, err = fromGrammar("root ::= \"SELECT \" col+ \" FROM \\\"\" tab \"\\\"\" (\" LIMIT \" [0-9])*\n# names\ncol ::= \"a\" |\n  \"b\" | \"c\"\ntab ::= \"t1\" | \"t2\"\n", rng)
		if err != nil || !sql.MatchString(text) {
			t.Fatalf("grammar %q %v", text, err)
		}
		text, err = fromSchemaText(json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer","minimum":5,"maximum":7},"s":{"type":"string","pattern":"^[0-9]{2}$"},"l":{"type":"array","items":{"enum":["a",1]},"minItems":2,"maxItems":3},"b":{"type":"boolean"},"f":{"type":"number"},"m":{"type":"string","maxLength":3}}}`), rng)
		var doc struct {
			N int      `json:"n"`
			S string   `json:"s"`
			L []any    `json:"l"`
			B *bool    `json:"b"`
			F *float64 `json:"f"`
			M string   `json:"m"`
		}
		if err != nil || json.Unmarshal([]byte(text), &doc) != nil || doc.N < 5 || doc.N > 7 || len(doc.S) != 2 || len(doc.L) < 2 || len(doc.L) > 3 || doc.B == nil || doc.F == nil || len(doc.M) > 3 {
			t.Fatalf("schema %s %v", text, err)
		}
	}
	for _, bad := range []string{strings.Repeat("(", 30) + "x", "root ::= " + strings.Repeat("(", 30) + `""` + strings.Repeat("*)+", 30), "", "a ::= \"x\"", "root ::= x", "root ::= root", "root = \"a\"", "root ::= \"a", "root ::= [a", "root ::= ) \"a\""} {
		if text, err := fromGrammar(bad, rng); err == nil {
			t.Errorf("grammar %q gave %q", bad, text)
		}
	}
}

// After a complete grammar ignore_eos goes on unconstrained, as in vLLM.
func TestIgnoreEOSBreaksConstraints(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	body := do(s, http.MethodPost, "/v1/completions", `{"prompt":"x","max_tokens":20,"ignore_eos":true,"structured_outputs":{"choice":["yes"]}}`).Body.String()
	if !strings.Contains(body, `"text":"yes`) || strings.Contains(body, `"text":"yes"`) || !strings.Contains(body, `"completion_tokens":20`) {
		t.Error(body)
	}
	body = do(s, http.MethodPost, "/v1/completions", `{"prompt":"x","max_tokens":20,"structured_outputs":{"choice":["yes"]}}`).Body.String()
	if !strings.Contains(body, `"text":"yes"`) || !strings.Contains(body, `"finish_reason":"stop"`) || !strings.Contains(body, `"completion_tokens":2`) {
		t.Error(body)
	}
}

func TestSameSeedSameText(t *testing.T) {
	t.Parallel()
	ask := func(seed string) string {
		var doc struct {
			Choices []struct {
				Text string `json:"text"`
			} `json:"choices"`
		}
		body := do(newServer(t, Config{}), http.MethodPost, "/v1/completions", `{"prompt":"x","max_tokens":30,"seed":`+seed+`}`).Body.Bytes()
		if err := json.Unmarshal(body, &doc); err != nil || len(doc.Choices) != 1 {
			t.Fatalf("%s", body)
		}
		return doc.Choices[0].Text
	}
	first, again, other := ask("7"), ask("7"), ask("8")
	if first != again || first == other {
		t.Error("texts do not follow the seed")
	}
}

func TestMetricsAreReadableAndTrue(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Model: "we\"ird\\\n"})
	for range 3 {
		do(s, http.MethodPost, "/v1/completions", `{"prompt":[1,2,3,4],"max_tokens":5}`)
	}
	do(s, http.MethodPost, "/v1/completions", `{"prompt":"x","max_tokens":9,"structured_outputs":{"choice":["yes"]}}`)
	rec := do(s, http.MethodGet, "/metrics", "")
	if got := rec.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("content type %s", got)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(rec.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"vllm:generation_tokens_total": 17, "vllm:prompt_tokens_total": 13} {
		f := families[name]
		if f == nil || f.GetMetric()[0].GetCounter().GetValue() != want {
			t.Errorf("%s: %v, want %v", name, f, want)
		}
	}
	byReason := map[string]float64{}
	for _, m := range families["vllm:request_success_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "finished_reason" {
				byReason[l.GetValue()] = m.GetCounter().GetValue()
			}
			if l.GetName() == "model_name" && l.GetValue() != "we\"ird\\\n" {
				t.Errorf("model name %q", l.GetValue())
			}
		}
	}
	if byReason["length"] != 3 || byReason["stop"] != 1 || byReason["abort"] != 0 {
		t.Errorf("%v", byReason)
	}
	for name, want := range map[string]uint64{"vllm:time_to_first_token_seconds": 4, "vllm:inter_token_latency_seconds": 13, "vllm:e2e_request_latency_seconds": 4, "vllm:request_generation_tokens": 4, "vllm:iteration_tokens_total": 17} {
		h := families[name].GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != want {
			t.Errorf("%s: %d, want %d", name, h.GetSampleCount(), want)
		}
		last := uint64(0)
		for _, b := range h.GetBucket() {
			if b.GetCumulativeCount() < last {
				t.Errorf("%s: buckets fall", name)
			}
			last = b.GetCumulativeCount()
		}
	}
}

// One slot serves one after the other, in order of arrival.
func TestSlotsQueue(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(newServer(t, Config{Slots: 1, TTFT: 40 * time.Millisecond, ITL: time.Millisecond}))
	defer srv.Close()
	begun := time.Now()
	done := make(chan error, 3)
	for range 3 {
		go func() {
			resp, err := http.Post(srv.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x","max_tokens":1}`))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	// Three times 40 ms cannot be shorter, and overlapped service would be.
	if took := time.Since(begun); took < 120*time.Millisecond {
		t.Errorf("three requests of 40 ms in one slot took %v", took)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestServeEndsWithItsContextAndDies(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithCancel(t.Context())
	ln, done := listen(), make(chan error, 1)
	go func() { done <- newServer(t, Config{}).Serve(ctx, ln) }()
	resp, err := client.Get("http://" + ln.Addr().String() + "/health")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	ln = listen()
	go func() { done <- newServer(t, Config{Faults: Faults{DieAfter: 3}}).Serve(t.Context(), ln) }()
	resp, err = client.Post("http://"+ln.Addr().String()+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x","max_tokens":9,"stream":true}`))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the stream of a server that died ended well")
	}
	if err := <-done; err == nil {
		t.Error("Serve ended without saying that it died")
	}
	if _, err := client.Get("http://" + ln.Addr().String() + "/health"); err == nil {
		t.Error("a dead server answers")
	}
}

func TestErrorRateIsExact(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Faults: Faults{ErrorRate: 0.3}})
	var refused []int
	for i := range 20 {
		if do(s, http.MethodPost, "/v1/completions", `{"prompt":"x"}`).Code == 503 {
			refused = append(refused, i)
		}
	}
	// floor(0.3 n) grows at n = 4, 7, 10, 14, 17, 20.
	if !slices.Equal(refused, []int{3, 6, 9, 13, 16, 19}) {
		t.Errorf("%v", refused)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{TTFT: -1}, {Slots: -1}, {MaxModelLen: 1}, {Vocab: 3}, {Faults: Faults{ErrorRate: 2}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

func FuzzConstraints(f *testing.F) {
	for _, s := range []string{`{"type":"object","properties":{"a":{"type":"integer"}}}`, `[a-z]{3}`, "root ::= a | \"b\" (\"c\")*\na ::= [0-9]+", `{"type":"integer","minimum":-1e300,"maximum":1e300}`, `{"type":"string","minLength":1e18}`} {
		f.Add(s, uint64(1))
	}
	f.Fuzz(func(t *testing.T, in string, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, seed))
		if text, err := fromRegex(in, rng); err == nil && len(in) < 200 && !strings.Contains(in, "(?") {
			_ = text
		}
		_, _ = fromGrammar(in, rng)
		if text, err := fromSchemaText(json.RawMessage(in), rng); err == nil && !json.Valid([]byte(text)) {
			t.Fatalf("%q gave %q", in, text)
		}
	})
}

func FuzzRequest(f *testing.F) {
	s, err := New(Config{TTFT: time.Nanosecond, ITL: time.Nanosecond, MaxModelLen: 64})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range []string{`{"prompt":[1,2],"stream":true}`, `{"prompt":"x","max_tokens":3,"n":2}`, `{"messages":[{"role":"user","content":{"a":1}}]}`, `{"prompt":[[1]]}`} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/completions", "/v1/chat/completions", "/tokenize"} {
			rec := do(s, http.MethodPost, path, body)
			if rec.Code != 200 && rec.Code != 400 && rec.Code != 404 {
				t.Fatalf("%s %q: %d", path, body, rec.Code)
			}
		}
	})
}
