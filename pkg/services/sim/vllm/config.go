// Package vllm owns the built-in stand-in for a vLLM server: its OpenAI
// streaming API, metric names and error shapes over set latencies instead of a
// model. It names itself in every answer, so that its numbers can never pass
// for vLLM's. It must not know who asks, or how load is made.
package vllm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Name is what the simulator calls itself: the Server header, the
// system_fingerprint of every answer and owned_by of its model.
const Name = "aifbench-sim"

// Version is what /version answers; it is no version of vLLM.
const Version = "0.0.0+" + Name

// Config is one simulated server. The zero value of a field takes the default
// named beside it.
type Config struct {
	Model       string        // served model name; "sim"
	TTFT        time.Duration // from the start of service to the first token; 50 ms
	ITL         time.Duration // between tokens; 10 ms
	Slots       int           // requests served at once, others wait in order; 64
	MaxModelLen int           // prompt and answer tokens; 4096
	Vocab       int           // token ids 0..Vocab-1; 32000
	Seed        uint64        // of the texts
	// Key is required as a bearer token on every path when not empty: loopback
	// is open to each user of a node. KeyFile is read when Key is empty.
	Key     string
	KeyFile string
	Faults  Faults
	// Trace is told the moment before each token is written, for tests that
	// compare a client's stamps with the truth. It is called from many
	// goroutines. Nil is allowed.
	Trace func(requestID string, token int, at time.Time)
}

// Faults are defects on demand. The zero value has none.
type Faults struct {
	// DieAfter ends the server, connections and all, when that many tokens have
	// been written; 0 never.
	DieAfter int64
	// ErrorRate is the share of completions refused with 503, by index so that
	// it is exact: 0.25 refuses every fourth.
	ErrorRate float64
	// StallAfter stops a stream without ending it after so many tokens; 0 never.
	StallAfter int
	// CutAfter resets the connection after so many tokens; 0 never.
	CutAfter int
	// FailAfter sends an error object inside the stream after so many tokens and
	// then [DONE], as a server does whose engine died; 0 never.
	FailAfter int
	// TokensPerChunk joins so many tokens into one chunk; 0 means 1.
	TokensPerChunk int
	// EmptyEvery gives every n-th token an empty text, as byte pieces have; 0 never.
	EmptyEvery int
	// IgnoreStructured accepts constraints and does not follow them, as servers
	// do that know only older field names.
	IgnoreStructured bool
	// NoUsage leaves usage out whatever is asked.
	NoUsage bool
	// RefuseIDs answers 400 to prompts of token ids, as servers do that take
	// text only.
	RefuseIDs bool
}

// withDefaults fills what was left open and refuses what cannot be served.
func (c Config) withDefaults() (Config, error) {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Slots, 64)
	set(&c.MaxModelLen, 4096)
	set(&c.Vocab, 32000)
	set(&c.Faults.TokensPerChunk, 1)
	if c.Model == "" {
		c.Model = "sim"
	}
	if c.TTFT == 0 {
		c.TTFT = 50 * time.Millisecond
	}
	if c.ITL == 0 {
		c.ITL = 10 * time.Millisecond
	}
	switch {
	case c.TTFT < 0 || c.ITL < 0:
		return c, fmt.Errorf("simulator: ttft %v and itl %v must not be negative", c.TTFT, c.ITL)
	case c.Slots < 1 || c.MaxModelLen < 2 || c.Vocab < 16 || c.Faults.TokensPerChunk < 1:
		return c, fmt.Errorf("simulator: slots %d, max model length %d or vocabulary %d is too small", c.Slots, c.MaxModelLen, c.Vocab)
	case !(c.Faults.ErrorRate >= 0 && c.Faults.ErrorRate <= 1):
		return c, fmt.Errorf("simulator: error rate %v is not in 0..1", c.Faults.ErrorRate)
	}
	if c.Key == "" && c.KeyFile != "" {
		b, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return c, fmt.Errorf("read simulator key: %w", err)
		}
		if c.Key = strings.TrimSpace(string(b)); c.Key == "" {
			return c, errors.New("read simulator key: the file is empty")
		}
	}
	return c, nil
}

// keySum hashes a key, so that comparing takes the same time for every guess.
func keySum(key string) [sha256.Size]byte { return sha256.Sum256([]byte("Bearer " + key)) }
