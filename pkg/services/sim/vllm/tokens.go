package vllm

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

var words = []string{
	" the", " server", " answers", " with", " words", " that", " mean", " nothing", ",", " since", " no", " model",
	" runs", " here", ".", " Each", " one", " stands", " for", " a", " token", " and", " takes", " its", " time",
}

// encode is the simulator's tokenizer: pieces of at most four bytes that begin
// at a blank, each with an id by hash. It is its own and nobody else's.
func (s *Server) encode(text string) []int {
	ids := []int{}
	for _, p := range pieces(text) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(p))
		ids = append(ids, int(h.Sum32()%uint32(s.cfg.Vocab)))
	}
	return ids
}

// pieces splits text into the texts of its tokens.
func pieces(text string) []string {
	var out []string
	for len(text) > 0 {
		n := 1
		for n < len(text) && n < 4 && text[n] != ' ' {
			n++
		}
		// A rune is never cut: a chunk must be valid UTF-8.
		for n < len(text) && text[n]&0xc0 == 0x80 {
			n++
		}
		out = append(out, text[:n])
		text = text[n:]
	}
	return out
}

// free returns n texts of an unconstrained answer.
func free(rng *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = words[rng.IntN(len(words))]
	}
	return out
}

type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
}

// text joins the text parts of a message.
func (m message) text() string {
	switch c := m.Content.(type) {
	case string:
		return m.Role + ": " + c
	case []any:
		var b strings.Builder
		for _, part := range c {
			if p, ok := part.(map[string]any); ok {
				if t, ok := p["text"].(string); ok {
					b.WriteString(t)
				}
			}
		}
		return m.Role + ": " + b.String()
	}
	return m.Role
}
