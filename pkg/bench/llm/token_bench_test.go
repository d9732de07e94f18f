package llm

import (
	"testing"
	"time"

	"aifbench/pkg/bench/llm/sse"
)

// loop repeats one event for ever.
type loop struct {
	event string
	pos   int
}

func (l *loop) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], l.event[l.pos:])
		n, l.pos = n+c, (l.pos+c)%len(l.event)
	}
	return n, nil
}

// BenchmarkToken is the client's work for one streamed token, from the bytes of
// the body to the counted gap.
func BenchmarkToken(b *testing.B) {
	const event = `data: {"id":"cmpl-9c258735e05e4c0b","object":"text_completion","created":1795501383,"model":"tiny","choices":[{"index":0,"text":" within","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}` + "\n\n"
	r := sse.NewReader(&loop{event: event}, func(time.Time) {})
	s := sample{usage: -1, prompt: -1, output: -1, gaps: make([]int64, 0, 1024)}
	c := counter{s: &s}
	b.ReportAllocs()
	for b.Loop() {
		data, at, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if c.event(probe(data, false), time.Duration(at.UnixNano())) != 1 {
			b.Fatal("no token")
		}
		if len(s.gaps) == cap(s.gaps) {
			s.gaps = s.gaps[:0]
		}
	}
}
