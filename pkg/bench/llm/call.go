package llm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aifbench/pkg/bench/llm/constraint"
	"aifbench/pkg/bench/llm/sse"
	"aifbench/pkg/bench/load"
)

// caller sends requests to one server. It is shared by all workers and never
// changed while they run.
type caller struct {
	http  *http.Transport
	base  string
	key   string
	chat  bool
	first time.Duration // time-outs
	idle  time.Duration
}

// question is one request to be sent.
type question struct {
	id       string
	body     []byte
	asked    int
	max      int
	workload *constraint.Workload
}

// maxErrorBody bounds what is read of an answer that is no stream.
const maxErrorBody = 64 << 10

func (c *caller) path() string {
	if c.chat {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// ask sends q and reads its stream to the end. s comes with its identity and
// intended start and is filled in.
func (c *caller) ask(ctx context.Context, clock load.Clock, q question, s *sample) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.connected, s.wrote, s.firstByte, s.firstToken, s.lastToken, s.end = never, never, never, never, never, never
	s.asked, s.maxTokens, s.prompt, s.output, s.usage, s.parses, s.valid = int64(q.asked), int64(q.max), -1, -1, -1, -1, -1

	var wrote atomic.Int64 // by the connection's writer, maybe later than we read it
	var connected, firstByte time.Duration
	connected, firstByte = never, never
	wrote.Store(int64(never))
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			connected = clock.Since()
			s.reused = i.Reused
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { wrote.Store(int64(clock.Since())) },
		GotFirstResponseByte: func() { firstByte = clock.Since() },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, c.base+c.path(), bytes.NewReader(q.body))
	if err != nil {
		s.start = clock.Since()
		s.fail(classClient, err.Error(), clock)
		return
	}
	c.header(req.Header)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("X-Request-Id", q.id)

	s.start = clock.Since()
	dog := watch(cancel, c.first, c.idle)
	defer dog.stop()
	resp, err := c.http.RoundTrip(req)
	s.wrote = time.Duration(wrote.Load())
	if err != nil {
		s.connected = connected
		s.fail(classify(ctx, err, false), c.clean(err), clock)
		return
	}
	defer resp.Body.Close()
	s.connected, s.firstByte, s.status = connected, firstByte, int64(resp.StatusCode)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		s.fail(httpClass(resp.StatusCode), c.hide(complaint(body)), clock)
		return
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		s.fail(classNotStream, c.hide(fmt.Sprintf("content type %s: %s", printable(resp.Header.Get("Content-Type")), complaint(body))), clock)
		return
	}
	c.stream(ctx, clock, resp.Body, dog, q, s)
}

func (c *caller) header(h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "aifbench")
	if c.key != "" {
		h.Set("Authorization", "Bearer "+c.key)
	}
}

func (s *sample) fail(class, message string, clock load.Clock) {
	s.class, s.message = class, message
	s.end = clock.Since()
}

// clean makes an error's text fit for a record; hide takes the key out, which
// a server may echo.
func (c *caller) clean(err error) string { return c.hide(printable(err.Error())) }

func (c *caller) hide(s string) string {
	if c.key == "" {
		return s
	}
	return strings.ReplaceAll(s, c.key, "[key]")
}

// stream reads the events of one answer.
func (c *caller) stream(ctx context.Context, clock load.Clock, body io.Reader, dog *watchdog, q question, s *sample) {
	events := sse.NewReader(body, dog.seen)
	s.gaps = make([]int64, 0, max(q.max-1, 0))
	count := counter{s: s}
	var answer []byte
	var done bool
	for n := 0; ; n++ {
		data, at, err := events.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			count.finish()
			s.fail(classify(ctx, err, true), c.clean(err), clock)
			return
		}
		now := clock.Offset(at)
		if bytes.Equal(bytes.TrimSpace(data), doneMark) {
			s.end, done = now, true
			break
		}
		ev := probe(data, c.chat)
		if ev.failed {
			count.finish()
			s.fail(classStream, c.hide(complaint(data)), clock)
			return
		}
		tokens := count.event(ev, now)
		if tokens > 0 {
			dog.token()
		}
		if q.workload != nil && ev.text {
			answer = appendText(answer, data, c.chat)
		}
		// The first event, the last ones and strange ones are decoded whole, after
		// their stamp; those between carry only tokens.
		if n == 0 || ev.finish != nil || !ev.choices {
			if err := whole(data); err != nil {
				count.finish()
				s.fail(classBad, c.clean(err), clock)
				return
			}
		}
		s.end = now
	}
	if done {
		dog.hurry()
		// Reading to the end of the body gives the connection back for reuse.
		_, _ = io.CopyN(io.Discard, body, maxErrorBody)
	}
	count.finish()
	switch {
	case s.finish == "abort" || s.finish == "error":
		s.fail(classStream, "finish_reason "+s.finish, clock)
	case s.finish == "":
		s.fail(classTruncated, "the stream ended without a finish reason", clock)
	case s.chunks == 0:
		s.fail(classEmpty, "finished for the reason "+s.finish+" without a token", clock)
	default:
		if q.workload != nil {
			v := q.workload.Judge(string(answer))
			s.parses, s.valid = bit(v.Parses), bit(v.Valid)
		}
	}
}

func bit(b bool) int8 {
	if b {
		return 1
	}
	return 0
}

// How the tokens of an answer were counted.
const (
	byContinuous = "continuous_usage" // usage in each event
	byUsage      = "final_usage"      // usage at the end, arrivals by event
	byIDs        = "token_ids"
	byChunks     = "events_with_text"
)

// counter counts the tokens of one answer.
type counter struct {
	s          *sample
	counted    int64
	continuous bool
	ids        bool
	plain      bool // every event so far had one token
}

// event takes one event and returns how many tokens it brought.
func (c *counter) event(ev chunk, at time.Duration) int64 {
	s := c.s
	if ev.prompt >= 0 {
		s.prompt = ev.prompt
	}
	if ev.finish != nil {
		s.finish = reason(ev.finish)
	}
	if !ev.choices {
		if ev.usage >= 0 {
			s.usage = ev.usage
		}
		return 0
	}
	var n int64
	switch {
	case ev.usage >= 0 && (s.chunks == 0 || c.continuous):
		// Usage beside a choice from the first token on is a running count.
		c.continuous = true
		n = ev.usage - c.counted
	case ev.ids >= 0:
		c.ids = true
		n = int64(ev.ids)
	case ev.text:
		n = 1
	}
	if ev.usage >= 0 {
		s.usage = ev.usage
	}
	if n <= 0 {
		return 0
	}
	if s.chunks == 0 {
		s.firstToken = at
		c.plain = true
	} else {
		s.gaps = append(s.gaps, int64(at-s.lastToken))
	}
	if c.plain && n != 1 {
		c.plain = false
		s.counts = make([]int64, s.chunks, s.chunks+8)
		for i := range s.counts {
			s.counts[i] = 1
		}
	}
	if !c.plain {
		s.counts = append(s.counts, n)
	}
	s.lastToken = at
	s.chunks++
	c.counted += n
	return n
}

// finish settles the number of output tokens.
func (c *counter) finish() {
	s := c.s
	switch {
	case c.continuous:
		s.output, s.countedBy = max(s.usage, c.counted), byContinuous
	case s.usage >= 0:
		s.output, s.countedBy = s.usage, byUsage
	case c.ids:
		s.output, s.countedBy = c.counted, byIDs
	case s.chunks > 0:
		s.output, s.countedBy = c.counted, byChunks
	}
}

// reason keeps the usual words without a new string for each request.
func reason(b []byte) string {
	for _, w := range []string{"length", "stop"} {
		if string(b) == w {
			return w
		}
	}
	return printable(string(b))
}

// watchdog ends a request that has been silent for too long. Per read it costs
// one atomic store: its timer looks at the clock when it fires and not before.
type watchdog struct {
	cancel      context.CancelCauseFunc
	first, idle time.Duration
	begun       time.Time
	last        atomic.Int64 // of the last read, ns since begun
	tokens      atomic.Bool
	mu          sync.Mutex
	timer       *time.Timer
	stopped     bool
}

func watch(cancel context.CancelCauseFunc, first, idle time.Duration) *watchdog {
	w := &watchdog{cancel: cancel, first: first, idle: idle, begun: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(min(first, idle), w.fire)
	return w
}

func (w *watchdog) seen(at time.Time) { w.last.Store(int64(at.Sub(w.begun))) }
func (w *watchdog) token() {
	if !w.tokens.Load() {
		w.tokens.Store(true)
	}
}

// hurry leaves the end of the body two seconds at most.
func (w *watchdog) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = min(w.idle, 2*time.Second)
	w.tokens.Store(true)
	if !w.stopped {
		w.timer.Reset(w.idle)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

func (w *watchdog) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now := time.Since(w.begun)
	left, cause := w.first-now, errFirstToken
	if w.tokens.Load() {
		left, cause = time.Duration(w.last.Load())+w.idle-now, errIdle
	}
	if left <= 0 {
		w.cancel(cause)
		return
	}
	// Until the first token the limit may change to the idle one at any time.
	w.timer.Reset(min(left, max(w.idle, time.Millisecond)))
}
