package llm

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"aifbench/pkg/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replay serves one recorded answer, byte for byte, to every connection.
func replay(t *testing.T, answer []byte, piece int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			// One after the other is enough: each test sends one request.
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				for b := answer; len(b) > 0; {
					n := min(piece, len(b))
					if _, err := conn.Write(b[:n]); err != nil {
						break
					}
					b = b[n:]
				}
			}
			conn.Close()
		}
	}()
	return "http://" + ln.Addr().String()
}

func askOnce(t *testing.T, base string, chat bool, first, idle time.Duration) sample {
	t.Helper()
	cfg := Default()
	cfg.Target.URL = base
	if chat {
		cfg.API = Chat
	}
	c, err := newCaller(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	c.first, c.idle, c.key = first, idle, "sk-canary"
	var s sample
	c.ask(t.Context(), load.StartClock(), question{id: "x", body: []byte(`{}`), max: 128}, &s)
	return s
}

// The recordings are of vLLM 0.32.0, Python and Rust front ends; the expected
// numbers were counted by hand in the files.
func TestRecordedStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file           string
		class          string
		chunks, output int64
		by, finish     string
		prompt         int64
		counts         []int64
	}{
		// 8 tokens, one of them a piece of a rune without text: usage tells.
		{"plain.completions.stream.ids", "", 7, 8, byUsage, "length", 5, nil},
		{"rust-frontend.completions.stream.ids", "", 7, 8, byUsage, "length", 5, nil},
		// Running usage shows that the empty texts are tokens.
		{"plain.completions.stream.continuous-usage", "", 8, 8, byContinuous, "length", 3, nil},
		{"rust-frontend.completions.stream.continuous-usage", "", 8, 8, byContinuous, "length", 3, nil},
		{"plain.chat.stream.continuous-usage", "", 8, 8, byContinuous, "length", 25, nil},
		{"rust-frontend.chat.stream.continuous-usage", "", 8, 8, byContinuous, "length", 25, nil},
		{"flags.no-stream-options", "", 8, 8, byContinuous, "length", 3, nil},
		// So do token ids; Rust's first event has an empty list of them.
		{"plain.completions.stream.return-token-ids", "", 8, 8, byUsage, "length", 3, nil},
		{"rust-frontend.completions.stream.return-token-ids", "", 8, 8, byUsage, "length", 3, nil},
		// 1 + 4 + 4 + 3 tokens in four events.
		{"plain.completions.stream.stream-interval-4", "", 4, 12, byContinuous, "length", 3, []int64{1, 4, 4, 3}},
		{"rust-frontend.completions.stream.stream-interval-4", "", 4, 12, byContinuous, "length", 3, []int64{1, 4, 4, 3}},
		// No usage at all: only events with text can be counted.
		{"plain.completions.stream.string", "", 6, 6, byChunks, "length", -1, nil},
		{"plain.chat.stream", "", 7, 8, byUsage, "length", 25, nil},
		{"plain.completions.max-tokens-1.stream", "", 1, 1, byUsage, "length", 3, nil},
		{"rust-frontend.completions.max-tokens-1.stream", "", 1, 1, byUsage, "length", 3, nil},
		// pos|iti|v|e and the end mark; pos|i|tive and the end mark.
		{"plain.so.choice.stream", "", 4, 5, byUsage, "stop", 25, nil},
		{"rust-frontend.so.choice.stream", "", 3, 4, byUsage, "stop", 25, nil},
		{"plain.so.json.stream", "", 128, 128, byUsage, "length", -2, nil},
		{"plain.err.so.invalid-schema.stream", classStream, 0, -1, "", "", -1, nil},
		{"rust-frontend.err.so.invalid-schema.stream", classEmpty, 0, -1, "", "stop", -1, nil},
		{"plain.err.unknown-model", "http_404", 0, -1, "", "", -1, nil},
		{"rust-frontend.err.unknown-model", "http_404", 0, -1, "", "", -1, nil},
		{"plain.err.bad-json", "http_400", 0, -1, "", "", -1, nil},
		{"rust-frontend.err.bad-json", "http_400", 0, -1, "", "", -1, nil},
		{"flags.key-wrong", "http_401", 0, -1, "", "", -1, nil},
		// Tokens came, then the engine died: an error event and [DONE].
		{"stop.sigkill-engine", classStream, -2, -2, byChunks, "", -1, nil},
		{"stop.sigterm-abort", classStream, -2, -2, byChunks, "", -1, nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			answer, err := os.ReadFile("testdata/streams/" + c.file + ".res")
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range []int{1 << 20, 97} {
				s := askOnce(t, replay(t, answer, piece), strings.Contains(c.file, "chat") || strings.Contains(c.file, "so."), time.Minute, time.Minute)
				if s.class != c.class || s.countedBy != c.by || s.finish != c.finish {
					t.Fatalf("class %q (%s), counted by %q, finish %q", s.class, s.message, s.countedBy, s.finish)
				}
				if c.chunks != -2 && s.chunks != c.chunks || c.output != -2 && s.output != c.output || c.prompt != -2 && s.prompt != c.prompt {
					t.Fatalf("chunks %d, output %d, prompt %d", s.chunks, s.output, s.prompt)
				}
				if c.chunks == -2 && (s.chunks < 4 || s.firstToken == never) {
					t.Fatalf("tokens before the failure are lost: %d", s.chunks)
				}
				if !slices.Equal(s.counts, c.counts) || int64(len(s.gaps)) != max(s.chunks-1, 0) {
					t.Fatalf("counts %v, %d gaps", s.counts, len(s.gaps))
				}
				if s.chunks > 0 && !(s.start <= s.connected && s.connected <= s.firstByte && s.firstByte <= s.firstToken && s.firstToken <= s.lastToken && s.lastToken <= s.end) {
					t.Fatalf("moments out of order: %+v", s)
				}
				if s.class != "" && s.message == "" {
					t.Fatal("a failure without a message")
				}
			}
		})
	}
}

const (
	head200 = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	tok     = `data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}` + "\n\n"
)

func chunked(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(strconv.FormatInt(int64(len(p)), 16) + "\r\n" + p + "\r\n")
	}
	return b.String()
}

func TestFailuresHaveClasses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer, class, message string
	}{
		"html":                {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 26\r\n\r\n<script>alert(1)</script>\n", classNotStream, "text/html"},
		"json, not a stream":  {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", classNotStream, "application/json"},
		"503":                 {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", "http_503", "busy"},
		"error as a string":   {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 24\r\n\r\n{\"error\":\"Unauthorized\"}", "http_401", "Unauthorized"},
		"detail":              {"HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{\"detail\":\"Not Found\"}", "http_404", "Not Found"},
		"the key comes back":  {"HTTP/1.1 400 Bad Request\r\nContent-Length: 18\r\n\r\nbad key: sk-canary", "http_400", "bad key: [key]"},
		"control characters":  {"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\na\x1b[2Jb\x07\r\n", "http_400", `a\x1b[2Jb\a`},
		"closed at once":      {"", classClosed, ""},
		"cut in a chunk":      {head200 + chunked(tok) + "ff\r\ndata: {", classTruncated, ""},
		"cut between chunks":  {head200 + chunked(tok), classTruncated, ""},
		"no finish reason":    {head200 + chunked(tok) + "0\r\n\r\n", classTruncated, "finish reason"},
		"done, no reason":     {head200 + chunked(tok, "data: [DONE]\n\n") + "0\r\n\r\n", classTruncated, "finish reason"},
		"garbage":             {head200 + chunked("data: hello\n\n") + "0\r\n\r\n", classBad, "not a JSON object"},
		"binary":              {head200 + chunked("data: \x00\xff\x1f\n\n") + "0\r\n\r\n", classBad, "not a JSON object"},
		"no events":           {head200 + chunked("hello\n\n") + "0\r\n\r\n", classTruncated, "finish reason"},
		"error after a token": {head200 + chunked(tok, `data: {"error":{"message":"boom</script>","code":500}}`+"\n\n", "data: [DONE]\n\n") + "0\r\n\r\n", classStream, "boom</script>"},
		"error is a string":   {head200 + chunked(`data: {"error": "boom"}`+"\n\n") + "0\r\n\r\n", classStream, "boom"},
		"abort":               {head200 + chunked(tok, `data: {"choices":[{"text":"","finish_reason":"abort"}]}`+"\n\n") + "0\r\n\r\n", classStream, "abort"},
		"not http":            {"SSH-2.0-OpenSSH\r\n", classConnect, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := askOnce(t, replay(t, []byte(c.answer), 1<<20), false, time.Minute, time.Minute)
			if s.class != c.class || !strings.Contains(s.message, c.message) {
				t.Fatalf("class %q, message %q", s.class, s.message)
			}
			if strings.ContainsFunc(s.message, func(r rune) bool { return r < ' ' }) || strings.Contains(s.message, "sk-canary") {
				t.Fatalf("message %q", s.message)
			}
		})
	}
}

// silent answers with what it is given and then says nothing for ever.
func silent(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		// An answer before the request would be a protocol error of its own.
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
		_, _ = io.Copy(io.Discard, conn) // until the client gives up
	}()
	return "http://" + ln.Addr().String()
}

func TestSilence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, class string }{
		"nothing at all":        {"", classFirst},
		"headers only":          {head200, classFirst},
		"comments keep nothing": {head200 + chunked(": ping\n\n"), classFirst},
		"one token":             {head200 + chunked(tok), classIdle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := askOnce(t, silent(t, c.answer), false, 150*time.Millisecond, 60*time.Millisecond)
			if s.class != c.class {
				t.Fatalf("class %q (%s)", s.class, s.message)
			}
		})
	}
}

func TestRefusedAndCancelled(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + ln.Addr().String()
	ln.Close()
	if s := askOnce(t, base, false, time.Minute, time.Minute); s.class != classRefused {
		t.Fatalf("class %q (%s)", s.class, s.message)
	}
	cfg := Default()
	cfg.Target.URL = silent(t, head200)
	c, err := newCaller(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(30*time.Millisecond, func() { cancel(load.ErrDrainLimit) })
	var s sample
	c.ask(ctx, load.StartClock(), question{body: []byte("{}"), max: 1}, &s)
	if s.class != classUnfinished {
		t.Fatalf("class %q (%s)", s.class, s.message)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		chat bool
		want chunk
	}{
		"text with keys in it":   {`{"choices":[{"text":"\"choices\":[] \"usage\":{\"completion_tokens\":9}","finish_reason":null}]}`, false, chunk{choices: true, text: true, ids: -1, usage: -1, prompt: -1}},
		"blanks":                 {`{ "choices" : [ { "text" : "" , "token_ids" : [ 1 , 2 ] , "finish_reason" : "stop" } ] , "usage" : { "prompt_tokens" : 3 , "completion_tokens" : 7 } }`, false, chunk{choices: true, ids: 2, usage: 7, prompt: 3, finish: []byte("stop")}},
		"empty list of ids":      {`{"choices":[{"text":"","token_ids":[ ],"prompt_token_ids":[1,2,3]}]}`, false, chunk{choices: true, ids: 0, usage: -1, prompt: -1}},
		"usage event":            {`{"choices":[],"usage":{"prompt_tokens":3,"total_tokens":4,"completion_tokens":1}}`, false, chunk{ids: -1, usage: 1, prompt: 3}},
		"role only":              {`{"choices":[{"delta":{"role":"assistant","content":""}}]}`, true, chunk{choices: true, ids: -1, usage: -1, prompt: -1}},
		"null content":           {`{"choices":[{"delta":{"content":null}}]}`, true, chunk{choices: true, ids: -1, usage: -1, prompt: -1}},
		"reasoning":              {`{"choices":[{"delta":{"reasoning_content":"hm"}}]}`, true, chunk{choices: true, text: true, ids: -1, usage: -1, prompt: -1}},
		"tool call":              {`{"choices":[{"delta":{"tool_calls":[{"id":"a"}]}}]}`, true, chunk{choices: true, text: true, ids: -1, usage: -1, prompt: -1}},
		"no tool call":           {`{"choices":[{"delta":{"tool_calls":[]}}]}`, true, chunk{choices: true, ids: -1, usage: -1, prompt: -1}},
		"error":                  {`{"error":{"message":"x"}}`, false, chunk{failed: true, ids: -1, usage: -1, prompt: -1}},
		"null usage":             {`{"choices":[{"text":"a"}],"usage":null}`, false, chunk{choices: true, text: true, ids: -1, usage: -1, prompt: -1}},
		"key at the end":         {`{"choices"`, false, chunk{ids: -1, usage: -1, prompt: -1}},
		"choices says something": {`{"object":"choices","choices":[{"text":"a"}]}`, false, chunk{choices: true, text: true, ids: -1, usage: -1, prompt: -1}},
	} {
		got := probe([]byte(c.in), c.chat)
		if got.choices != c.want.choices || got.text != c.want.text || got.ids != c.want.ids || got.usage != c.want.usage || got.prompt != c.want.prompt ||
			!bytes.Equal(got.finish, c.want.finish) || got.failed != c.want.failed {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := string(appendText([]byte("x"), []byte(`{"choices":[{"text":"a\"\u00e9\\"}]}`), false)); got != `xa"é\` {
		t.Errorf("text %q", got)
	}
}

func TestProbeAllocatesNothing(t *testing.T) {
	data := []byte(`{"id":"cmpl-1","choices":[{"index":0,"text":" within","logprobs":null,"finish_reason":null,"token_ids":[905]}],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}}`)
	if n := testing.AllocsPerRun(100, func() { probe(data, false) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzProbe(f *testing.F) {
	for _, s := range []string{
		`{"choices":[{"text":"a","token_ids":[1,2],"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":7}}`,
		`{"choices":[{"delta":{"content":"\u00e9\\"}}]}`, `{"error":"x"}`, `"choices":`, `"usage":{`, `"token_ids":[`, `"text":"\`, `[DONE]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, chat := range []bool{false, true} {
			c := probe(in, chat)
			if c.ids < -1 || c.usage < -1 || c.prompt < -1 {
				t.Fatalf("%+v", c)
			}
			appendText(nil, in, chat)
		}
		if s := complaint(in); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q", s)
		}
	})
}

func FuzzDataset(f *testing.F) {
	for _, s := range []string{`{"prompt":"a"}`, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n\n{\"prompt\":\"b\",\"output_len_tokens\":5}", `{"x":1}`, `{"messages":[]}`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, api := range APIs {
			lines, err := parseDataset(bytes.NewReader(in), api)
			if (err == nil) != (len(lines) > 0) {
				t.Fatalf("%d lines, %v", len(lines), err)
			}
			halves, err2 := parseDataset(iotest.HalfReader(bytes.NewReader(in)), api)
			if len(lines) != len(halves) || (err == nil) != (err2 == nil) {
				t.Fatal("the answer depends on how the file is read")
			}
		}
	})
}

func TestDatasetErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                      "empty",
		"{\"prompt\":\"a\"}\n{\"promt\":1}":     "line 2",
		"\n\n{}":                                "line 3",
		`{"prompt":"a","messages":[{}]}`:        "both",
		`{"messages":[{}]}`:                     "chat",
		`{"messages":{}}`:                       "not a list",
		`{"prompt":"a","output_len_tokens":-1}`: "negative",
	} {
		if _, err := parseDataset(strings.NewReader(in), Completions); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}
