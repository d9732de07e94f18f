package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/bench/llm/constraint"
	"aifbench/pkg/bench/load"
)

// server is what was learned of the target before the load. It is stored with
// the samples.
type server struct {
	Model       string  `json:"model"`
	MaxModelLen int     `json:"max_model_len,omitempty"`
	OwnedBy     string  `json:"owned_by,omitempty"`
	Version     string  `json:"version,omitempty"`
	Software    string  `json:"software,omitempty"` // Server header
	Simulator   bool    `json:"simulator"`
	Dialect     dialect `json:"dialect"`
	PromptIDs   string  `json:"prompt_ids"` // where ids come from, or why there are none
	PerWord     float64 `json:"tokens_per_word"`
	// Canary is the judgement of one constrained answer: followed, ignored, or
	// empty when nothing was constrained.
	Canary string `json:"canary,omitempty"`
	// Extra is the number of requests that were sent beside the load.
	Extra int `json:"extra_requests"`
	pool  []int
}

// refusedError is a preflight that the server answered with a failure.
type refusedError struct {
	step, class, message string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.step, e.class, e.message)
}

// simulatorName is how the built-in stand-in names itself.
const simulatorName = "aifbench-sim"

// newCaller makes the client of a configuration.
func newCaller(cfg Config) (*caller, error) {
	base, err := baseURL(cfg.Target.URL)
	if err != nil {
		return nil, err
	}
	key, err := readKey(cfg.Target.KeyFile)
	if err != nil {
		return nil, err
	}
	most := 0
	for _, n := range cfg.Concurrency {
		most = max(most, n)
	}
	if most == 0 {
		most = 4096
	}
	dialer := &net.Dialer{Timeout: dur(cfg.ConnectTimeoutS), KeepAlive: 30 * time.Second}
	return &caller{
		http: &http.Transport{
			// No proxy from the environment, no compression, no HTTP/2: each would
			// measure something else.
			Proxy: nil, DialContext: dialer.DialContext, DisableCompression: true, ForceAttemptHTTP2: false,
			MaxIdleConns: 0, MaxIdleConnsPerHost: most,
			// Under the 5 s after which vLLM's server closes an idle connection: else a
			// request may be sent into one that is just being closed.
			IdleConnTimeout: 4 * time.Second,
			ReadBufferSize:  32 << 10, WriteBufferSize: 32 << 10, TLSHandshakeTimeout: dur(cfg.ConnectTimeoutS),
			Protocols: http1(),
		},
		base: base.String(), key: key, chat: cfg.API == Chat, first: dur(cfg.FirstTokenTimeoutS), idle: dur(cfg.IdleTimeoutS),
	}, nil
}

func http1() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

// readKey reads the bearer token and refuses a file that others may read.
func readKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read key: %s can be read by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("read key: %s does not hold one word of printable characters", path)
	}
	return key, nil
}

// get fetches or posts a small document.
func (c *caller) small(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, min(c.first, 60*time.Second))
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	c.header(req.Header)
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, &refusedError{path, classify(ctx, err, false), c.clean(err)}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	switch {
	case err != nil:
		return nil, &refusedError{path, classify(ctx, err, true), c.clean(err)}
	case resp.StatusCode != http.StatusOK:
		return nil, &refusedError{path, httpClass(resp.StatusCode), c.hide(complaint(b))}
	case out == nil:
		return resp.Header, nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, &refusedError{path, classBad, c.hide("answer is not the expected JSON: " + complaint(b))}
	}
	return resp.Header, nil
}

// discover asks the server what it is and tries the dialect. A *refusedError
// is the server's, any other error the configuration's.
func (c *caller) discover(ctx context.Context, cfg Config, salt string) (server, error) {
	var s server
	if err := c.models(ctx, cfg, &s); err != nil {
		return s, err
	}
	var v struct {
		Version string `json:"version"`
	}
	if _, err := c.small(ctx, http.MethodGet, "/version", nil, &v); err == nil {
		s.Version = printable(v.Version)
	}
	c.vocabulary(ctx, &s)
	asked := cfg.InputLen
	if cfg.Structured == "" && cfg.Dataset == Random && s.MaxModelLen > 0 && asked+cfg.OutputLen > s.MaxModelLen {
		return s, fmt.Errorf("input of %d and output of %d tokens exceed the %d tokens of the model: give smaller lengths", asked, cfg.OutputLen, s.MaxModelLen)
	}
	if err := c.dialect(ctx, cfg, salt, &s); err != nil {
		return s, err
	}
	if cfg.Structured != "" {
		return s, c.canary(ctx, cfg, &s)
	}
	return s, nil
}

func (c *caller) models(ctx context.Context, cfg Config, s *server) error {
	var doc struct {
		Data []struct {
			ID          string `json:"id"`
			OwnedBy     string `json:"owned_by"`
			MaxModelLen int    `json:"max_model_len"`
		} `json:"data"`
	}
	header, err := c.small(ctx, http.MethodGet, "/v1/models", nil, &doc)
	if err != nil {
		return err
	}
	s.Software = printable(header.Get("Server"))
	var names []string
	for _, m := range doc.Data {
		names = append(names, printable(m.ID))
		if m.ID == cfg.Target.Model || cfg.Target.Model == "" && len(doc.Data) == 1 {
			s.Model, s.MaxModelLen, s.OwnedBy = m.ID, m.MaxModelLen, printable(m.OwnedBy)
		}
	}
	if s.Model == "" {
		if cfg.Target.Model == "" {
			return fmt.Errorf("the server serves %d models: name one of %s", len(names), strings.Join(names, ", "))
		}
		return fmt.Errorf("the server does not serve model %s: name one of %s", printable(cfg.Target.Model), strings.Join(names, ", "))
	}
	s.Simulator = s.OwnedBy == simulatorName || s.Software == simulatorName
	return nil
}

// vocabulary asks the server's tokenizer for ids that exist, and how many
// tokens a word takes.
func (c *caller) vocabulary(ctx context.Context, s *server) {
	text := strings.Join(vocabulary, " ")
	var doc struct {
		Count  int   `json:"count"`
		Tokens []int `json:"tokens"`
	}
	_, err := c.small(ctx, http.MethodPost, "/tokenize", map[string]any{"model": s.Model, "prompt": text, "add_special_tokens": false}, &doc)
	s.PerWord = 1.3
	if err == nil && doc.Count > 0 {
		s.PerWord = float64(doc.Count) / float64(len(vocabulary))
		slices.Sort(doc.Tokens)
		s.pool = slices.Compact(doc.Tokens)
	}
	if len(s.pool) >= 16 {
		s.PromptIDs = fmt.Sprintf("%d ids of the server's tokenizer", len(s.pool))
		return
	}
	// Ids under 1000 exist in every vocabulary in use and those from 300 on are
	// neither bytes nor marks in most.
	s.pool = nil
	for id := 300; id < 1000; id++ {
		s.pool = append(s.pool, id)
	}
	s.PromptIDs = "ids 300 to 999, since the server tokenizes nothing"
}

// dialect finds the best of what the server accepts, from token ids, cache
// salt and continuous usage down to plain text. A server that answers 400 or
// 422 refused a field; anything else is a failure.
func (c *caller) dialect(ctx context.Context, cfg Config, salt string, s *server) error {
	ids := cfg.API == Completions && cfg.Dataset == Random && cfg.Structured == ""
	var tries []dialect
	for _, withIDs := range []bool{true, false} {
		if withIDs && !ids {
			continue
		}
		tries = append(tries,
			dialect{usageContinuous, salt, withIDs}, dialect{usageContinuous, "", withIDs},
			dialect{usageFinal, "", withIDs}, dialect{usageNone, "", withIDs})
	}
	trial := cfg
	trial.InputLen, trial.OutputLen, trial.Structured, trial.Dataset = 4, 2, "", Random
	for _, d := range tries {
		got := c.once(ctx, trial, s, d, nil)
		if got.class == "" {
			s.Dialect = d
			if !d.IDs && ids {
				s.PromptIDs = "none: the server refuses prompts of token ids"
			}
			if !d.IDs && !ids {
				s.PromptIDs = "none: prompts are text"
			}
			if d.Usage == usageContinuous && got.countedBy != byContinuous {
				s.Dialect.Usage = usageFinal
			}
			return nil
		}
		if got.class != httpClass(400) && got.class != httpClass(422) || d == tries[len(tries)-1] {
			return &refusedError{"first request", got.class, got.message}
		}
	}
	return errors.New("no dialect was tried")
}

// once sends one request outside the load.
func (c *caller) once(ctx context.Context, cfg Config, s *server, d dialect, work *constraint.Workload) sample {
	w := writer{cfg: cfg, model: s.Model, dialect: d, pool: s.pool, perWord: s.PerWord, work: work}
	s.Extra++
	got := sample{}
	// A number no point uses: the prompt is not seen again.
	c.ask(ctx, load.StartClock(), w.question(simpleID(rand.Uint64()), 1<<20, int64(s.Extra)), &got)
	return got
}

func simpleID(n uint64) string { return fmt.Sprintf("aifbench-pre-%08x", uint32(n)) }

func (c *caller) canary(ctx context.Context, cfg Config, s *server) error {
	work, err := constraint.Canary(cfg.Structured)
	if err != nil {
		return err
	}
	trial := cfg
	trial.OutputLen = max(cfg.OutputLen, 32)
	got := c.once(ctx, trial, s, s.Dialect, &work)
	switch {
	case got.class != "":
		return &refusedError{"first constrained request", got.class, got.message}
	case got.valid == 1:
		s.Canary = "followed"
	default:
		s.Canary = "ignored"
	}
	return nil
}
