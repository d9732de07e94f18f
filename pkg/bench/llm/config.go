// Package llm owns the load on a server of the OpenAI streaming API: plan,
// requests, streams, samples and the figures made from them. It must not know
// Slurm, cobra, or how the server was started.
package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/bench/llm/constraint"
	"aifbench/pkg/bench/load"
)

// Values of Config.API, Config.Arrival and Config.Dataset.
const (
	Completions = "completions"
	Chat        = "chat"

	Closed   = "closed"
	Constant = "constant"
	Poisson  = "poisson"

	Random = "random"
)

// APIs, Arrivals and Structured list the words a configuration may use.
var (
	APIs       = []string{Completions, Chat}
	Arrivals   = []string{Closed, Constant, Poisson}
	Structured = constraint.Kinds
)

// Target is the server to be measured.
type Target struct {
	// URL is the server's base address, such as http://127.0.0.1:8000, without
	// user, query or fragment; a trailing /v1 is allowed.
	URL string `json:"url"`
	// KeyFile names a 0600 file whose text is sent as a bearer token; empty sends
	// none. The key itself is never part of a configuration.
	KeyFile string `json:"key_file,omitempty"`
	// Model is the name requests ask for; empty takes the only one served.
	Model string `json:"model,omitempty"`
}

// Config is what a run measures. A list of concurrencies or rates gives one
// point of the curve each.
type Config struct {
	Target  Target `json:"target"`
	API     string `json:"api"`
	Arrival string `json:"arrival"`
	// Concurrency is for a closed loop, RatePerS for the others.
	Concurrency []int     `json:"concurrency,omitempty"`
	RatePerS    []float64 `json:"rate_per_s,omitempty"`
	// Requests and DurationS bound each point's window; at least one is given.
	Requests  int64   `json:"requests"`
	DurationS float64 `json:"duration_s"`
	// The warm-up of each point is run and recorded but not counted.
	WarmupRequests int64   `json:"warmup_requests"`
	WarmupS        float64 `json:"warmup_s"`
	// InputLen and OutputLen are tokens. With structured outputs and datasets the
	// input is what it is.
	InputLen  int    `json:"input_len_tokens"`
	OutputLen int    `json:"output_len_tokens"`
	Seed      uint64 `json:"seed"`
	// IgnoreEOS makes every answer OutputLen long. It breaks structured outputs
	// and is refused with them.
	IgnoreEOS   bool    `json:"ignore_eos"`
	Temperature float64 `json:"temperature"`
	// Structured is the kind of constraint sent with each request: empty, json,
	// regex, choice or grammar.
	Structured string `json:"structured,omitempty"`
	// Dataset is random or a file of JSON lines with prompt or messages each.
	Dataset string `json:"dataset"`
	// Timeouts of one request: to connect, to the first token, and of silence
	// between reads after it.
	ConnectTimeoutS    float64 `json:"connect_timeout_s"`
	FirstTokenTimeoutS float64 `json:"first_token_timeout_s"`
	IdleTimeoutS       float64 `json:"idle_timeout_s"`
	// MaxErrorRatio is the share of failed requests above which a point is
	// invalid.
	MaxErrorRatio float64 `json:"max_error_ratio"`
}

// Default returns the configuration that flags and files change.
func Default() Config {
	return Config{
		API: Completions, Arrival: Closed, Concurrency: []int{8}, Requests: 100, InputLen: 128, OutputLen: 64,
		Seed: 1, IgnoreEOS: true, Dataset: Random,
		ConnectTimeoutS: 10, FirstTokenTimeoutS: 300, IdleTimeoutS: 60, MaxErrorRatio: 0.01,
	}
}

// DecodeConfig reads a configuration strictly: unknown fields and text after
// it are errors. Fields left out keep the values of Default.
func DecodeConfig(b []byte) (Config, error) {
	c := Default()
	// A list that is left out must not mix with a list that is given.
	c.Concurrency = nil
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("decode llm configuration: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("decode llm configuration: text after the document")
	}
	if c.Arrival == Closed && c.Concurrency == nil {
		c.Concurrency = Default().Concurrency
	}
	return c, nil
}

// Validate returns every mistake of a configuration, each with what to type.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if _, err := baseURL(c.Target.URL); err != nil {
		errs = append(errs, err)
	}
	word := func(name, got string, allowed []string) {
		if !slices.Contains(allowed, got) {
			add("%s %q: give one of %s", name, printable(got), strings.Join(allowed, ", "))
		}
	}
	word("api", c.API, APIs)
	word("arrival", c.Arrival, Arrivals)
	if c.Structured != "" {
		word("structured", c.Structured, Structured)
	}
	switch {
	case c.Arrival == Closed && len(c.Concurrency) == 0:
		add("a closed loop needs concurrency: give one or more numbers of requests in flight")
	case c.Arrival == Closed && len(c.RatePerS) > 0:
		add("a rate is given for a closed loop: give arrival constant or poisson, or leave the rate out")
	case c.Arrival != Closed && len(c.RatePerS) == 0:
		add("arrival %s needs a rate: give one or more numbers of requests per second", printable(c.Arrival))
	case c.Arrival != Closed && len(c.Concurrency) > 0:
		add("concurrency is given for arrival %s: give a rate alone, or arrival closed", printable(c.Arrival))
	}
	for _, n := range c.Concurrency {
		if n < 1 || n > load.MaxConcurrency {
			add("concurrency %d: give a number from 1 to %d", n, load.MaxConcurrency)
		}
	}
	for _, r := range c.RatePerS {
		if !(r > 0) || r > load.MaxRate {
			add("rate %v: give a number above 0 and up to %g per second", r, float64(load.MaxRate))
		}
	}
	if c.Requests < 0 || c.WarmupRequests < 0 {
		add("requests %d and warm-up requests %d must not be negative", c.Requests, c.WarmupRequests)
	}
	for _, s := range []struct {
		name string
		v    float64
		zero bool
	}{
		{"duration", c.DurationS, true},
		{"warm-up", c.WarmupS, true},
		{"connect time-out", c.ConnectTimeoutS, false},
		{"first token time-out", c.FirstTokenTimeoutS, false},
		{"idle time-out", c.IdleTimeoutS, false},
	} {
		if !(s.v >= 0) || s.v > 1e7 || s.v == 0 && !s.zero {
			add("%s of %v s: give a number of seconds above 0", s.name, s.v)
		}
	}
	if c.Requests == 0 && c.DurationS == 0 {
		add("nothing ends the load: give requests or a duration")
	}
	if c.InputLen < 1 || c.InputLen > 1<<24 || c.OutputLen < 1 || c.OutputLen > 1<<24 {
		add("input length %d and output length %d: give numbers of tokens of at least 1", c.InputLen, c.OutputLen)
	}
	if c.Structured != "" && c.IgnoreEOS {
		add("ignore_eos breaks structured outputs, the model goes on after the end: turn one of them off")
	}
	if !(c.Temperature >= 0) || math.IsInf(c.Temperature, 0) {
		add("temperature %v: give a number of at least 0", c.Temperature)
	}
	if c.Dataset == "" {
		add("dataset is empty: give random or a file of JSON lines")
	}
	if !(c.MaxErrorRatio >= 0 && c.MaxErrorRatio <= 1) {
		add("error ratio %v: give a number from 0 to 1", c.MaxErrorRatio)
	}
	return errors.Join(errs...)
}

// baseURL parses the target's address and takes a trailing /v1 off.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("no target: give the server's URL, such as http://127.0.0.1:8000")
	case err != nil:
		// The parser's error repeats the text, which may hold a password.
		return nil, errors.New("target is not a URL: give one such as http://127.0.0.1:8000")
	case u.User != nil:
		return nil, errors.New("target has a user or password in it: give the key in a file")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("target %q: give a URL that begins with http:// or https://", printable(text))
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("target %q: leave query and fragment out", printable(u.Redacted()))
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1"), "/")
	u.RawPath = ""
	return u, nil
}

// point is one setting of the curve.
type point struct {
	label    string
	params   map[string]any
	schedule load.Schedule
}

func (c Config) points() []point {
	var out []point
	for _, n := range c.Concurrency {
		out = append(out, point{fmt.Sprintf("concurrency %d", n), map[string]any{"concurrency": n}, load.ClosedLoop{Concurrency: n}})
	}
	for i, r := range c.RatePerS {
		p := point{fmt.Sprintf("rate %g/s", r), map[string]any{"rate_per_s": r}, load.Constant{Rate: r}}
		if c.Arrival == Poisson {
			// Each point has arrivals of its own; equal ones would repeat its luck.
			p.schedule = load.Poisson{Rate: r, Seed: c.Seed + uint64(i)}
		}
		out = append(out, p)
	}
	return out
}

func (c Config) plan(p point, drain time.Duration) load.Plan {
	return load.Plan{
		Schedule:   p.schedule,
		Warmup:     load.Bound{Count: c.WarmupRequests, Duration: dur(c.WarmupS)},
		Window:     load.Bound{Count: c.Requests, Duration: dur(c.DurationS)},
		DrainLimit: drain,
		// Each request ends by its own time-outs; those sent in the window are part
		// of its figures however long they take.
		TailLimit: max(drain, dur(c.FirstTokenTimeoutS)+dur(c.IdleTimeoutS)),
		// A dead server refuses a thousand times faster than a live one answers.
		StopAfterFailures: max(50, 4*int64(concurrency(p.schedule))),
	}
}

func concurrency(s load.Schedule) int {
	if c, ok := s.(load.ClosedLoop); ok {
		return c.Concurrency
	}
	return 0
}

func dur(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }
