package vllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

func (s *Server) completions(w http.ResponseWriter, r *http.Request) { s.complete(w, r, false) }
func (s *Server) chat(w http.ResponseWriter, r *http.Request)        { s.complete(w, r, true) }

func (s *Server) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	arrived := time.Now()
	var req request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, "Bad Request", fmt.Sprintf("1 validation error:\n  {'type': 'json_invalid', 'msg': %q}", err))
		return
	}
	seq := s.seq.Add(1) - 1
	// The n-th refusal falls where the running share passes a whole number.
	if rate := s.cfg.Faults.ErrorRate; math.Floor(float64(seq+1)*rate) > math.Floor(float64(seq)*rate) {
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailableError", "refused by the fault it was told to have")
		return
	}
	j, now, later := s.plan(req, chat, seq)
	if now == nil && !req.Stream {
		now = later
	}
	if now != nil {
		refuse(w, now.status, now.kind, now.msg)
		return
	}
	j.id = r.Header.Get("X-Request-Id")
	if j.id == "" {
		j.id = fmt.Sprintf("%016x", uint64(seq))
	}
	out := stream{s: s, w: w, rc: http.NewResponseController(w), j: j, arrived: arrived}
	if later != nil {
		out.open()
		out.event(problem(later.status, later.kind, later.msg))
		out.done()
		return
	}
	if req.Stream {
		// Status and headers leave before the first token, as vLLM's do.
		out.open()
	}
	s.metrics.waiting.Add(1)
	select {
	case s.slots <- struct{}{}:
		s.metrics.waiting.Add(-1)
	case <-r.Context().Done():
		s.metrics.waiting.Add(-1)
		s.metrics.finish("abort")
		return
	}
	s.metrics.running.Add(1)
	defer func() { s.metrics.running.Add(-1); <-s.slots }()
	begun := time.Now()
	s.metrics.admitted(len(j.prompt), begun.Sub(arrived))
	err := s.generate(r.Context(), &out, begun)
	ended := time.Now()
	switch {
	case errors.Is(err, errDied):
		panic(http.ErrAbortHandler)
	case err != nil:
		s.metrics.finish("abort")
	default:
		s.metrics.finished(j.finish, len(j.prompt), len(j.texts), j.maxTokens, begun, ended, arrived, s.cfg.TTFT)
	}
}

var (
	errDied  = errors.New("died")
	errFault = errors.New("fault")
)

// generate writes the tokens at their times: token k at begun + TTFT + k*ITL,
// whatever earlier writes took.
func (s *Server) generate(ctx context.Context, out *stream, begun time.Time) error {
	per := s.cfg.Faults.TokensPerChunk
	texts := out.j.texts
	last := begun
	for from := 0; from < len(texts); from += per {
		to := min(from+per, len(texts))
		if err := s.until(ctx, begun.Add(s.cfg.TTFT+time.Duration(to-1)*s.cfg.ITL)); err != nil {
			return err
		}
		if err := s.fault(ctx, out, from); err != nil {
			return err
		}
		now := time.Now()
		if s.cfg.Trace != nil {
			for k := from; k < to; k++ {
				s.cfg.Trace(out.j.id, k, now)
			}
		}
		if out.j.req.Stream {
			if err := out.tokens(from, to); err != nil {
				return err
			}
		}
		s.metrics.token(from, to-from, now.Sub(last), now.Sub(out.arrived))
		last = now
		if n := s.written.Add(int64(to - from)); s.cfg.Faults.DieAfter > 0 && n >= s.cfg.Faults.DieAfter {
			s.die.Do(func() { close(s.dead) })
			return errDied
		}
	}
	if out.j.req.Stream {
		return out.end()
	}
	answer(out.w, http.StatusOK, out.whole())
	return nil
}

func (s *Server) fault(ctx context.Context, out *stream, token int) error {
	f := s.cfg.Faults
	switch {
	case f.StallAfter > 0 && token >= f.StallAfter:
		select {
		case <-ctx.Done():
		case <-s.dead:
		}
		return errFault
	case f.CutAfter > 0 && token >= f.CutAfter:
		return errDied
	case f.FailAfter > 0 && token >= f.FailAfter:
		out.event(problem(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above) for the root cause."))
		out.done()
		return errFault
	}
	return nil
}

// until waits for a moment, the end of the request or the server's death.
func (s *Server) until(ctx context.Context, at time.Time) error {
	left := time.Until(at)
	if left <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.dead:
		return errDied
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stream writes one answer in vLLM's chunks.
type stream struct {
	s       *Server
	w       http.ResponseWriter
	rc      *http.ResponseController
	j       job
	arrived time.Time
	buf     []byte
}

func (o *stream) open() {
	o.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	o.w.WriteHeader(http.StatusOK)
	_ = o.rc.Flush()
}

func (o *stream) event(doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	o.buf = append(append(append(o.buf[:0], "data: "...), b...), "\n\n"...)
	if _, err := o.w.Write(o.buf); err != nil {
		return err
	}
	return o.rc.Flush()
}

func (o *stream) done() error {
	if _, err := o.w.Write([]byte("data: [DONE]\n\n")); err != nil {
		return err
	}
	return o.rc.Flush()
}

func (o *stream) usage(n int) map[string]int {
	return map[string]int{"prompt_tokens": len(o.j.prompt), "total_tokens": len(o.j.prompt) + n, "completion_tokens": n}
}

func (o *stream) wants() (final, continuous bool) {
	so := o.j.req.StreamOptions
	if so == nil || o.s.cfg.Faults.NoUsage {
		return false, false
	}
	return so.IncludeUsage, so.IncludeUsage && so.ContinuousUsage
}

func (o *stream) head(object string) map[string]any {
	id := "cmpl-" + o.j.id
	if o.j.chat {
		id = "chatcmpl-" + o.j.id
	}
	return map[string]any{"id": id, "object": object, "created": o.arrived.Unix(), "model": o.s.cfg.Model, "system_fingerprint": Name}
}

func (o *stream) object() string {
	if o.j.chat {
		return "chat.completion.chunk"
	}
	return "text_completion"
}

func (o *stream) tokens(from, to int) error {
	_, continuous := o.wants()
	if o.j.chat && from == 0 {
		first := o.head(o.object())
		first["choices"] = []any{map[string]any{"index": 0, "delta": map[string]any{"role": "assistant", "content": ""}, "logprobs": nil, "finish_reason": nil}}
		if continuous {
			first["usage"] = o.usage(0)
		}
		if err := o.event(first); err != nil {
			return err
		}
	}
	text := strings.Join(o.j.texts[from:to], "")
	choice := map[string]any{"index": 0, "logprobs": nil, "finish_reason": nil, "stop_reason": nil, "token_ids": nil}
	if o.j.req.ReturnTokenIDs {
		ids := make([]int, 0, to-from)
		for k := from; k < to; k++ {
			ids = append(ids, k%o.s.cfg.Vocab)
		}
		choice["token_ids"] = ids
	}
	if to == len(o.j.texts) {
		choice["finish_reason"] = o.j.finish
	}
	if o.j.chat {
		choice["delta"] = map[string]any{"content": text}
	} else {
		choice["text"] = text
	}
	doc := o.head(o.object())
	doc["choices"] = []any{choice}
	if continuous {
		doc["usage"] = o.usage(to)
	}
	return o.event(doc)
}

func (o *stream) end() error {
	if final, _ := o.wants(); final {
		doc := o.head(o.object())
		doc["choices"], doc["usage"] = []any{}, o.usage(len(o.j.texts))
		if err := o.event(doc); err != nil {
			return err
		}
	}
	return o.done()
}

// whole is the answer of a request that does not stream.
func (o *stream) whole() map[string]any {
	text := strings.Join(o.j.texts, "")
	choice := map[string]any{"index": 0, "logprobs": nil, "finish_reason": o.j.finish, "stop_reason": nil}
	object := "text_completion"
	if o.j.chat {
		object = "chat.completion"
		choice["message"] = map[string]any{"role": "assistant", "content": text}
	} else {
		choice["text"] = text
	}
	doc := o.head(object)
	doc["choices"], doc["usage"] = []any{choice}, o.usage(len(o.j.texts))
	return doc
}
