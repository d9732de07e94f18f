package llm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"aifbench/pkg/bench/llm/constraint"
)

// dialect is what the server was found to accept. It is part of the record.
type dialect struct {
	// Usage is continuous, final or none.
	Usage string `json:"usage"`
	// Salt separates this run's prompts from what a prefix cache holds; empty
	// when the server refuses the field.
	Salt string `json:"cache_salt,omitempty"`
	// IDs tells that prompts are sent as token ids.
	IDs bool `json:"token_id_prompts"`
}

// Values of dialect.Usage.
const (
	usageContinuous = "continuous"
	usageFinal      = "final"
	usageNone       = "none"
)

// writer makes request bodies. It is a value of configuration and discovery:
// the same index gives the same bytes.
type writer struct {
	cfg     Config
	model   string
	dialect dialect
	pool    []int    // token ids to draw from
	perWord float64  // tokens a word, for prompts of text
	lines   []prompt // of a dataset
	work    *constraint.Workload
}

// prompt is one line of a dataset.
type prompt struct {
	Prompt    string          `json:"prompt,omitempty"`
	Messages  json.RawMessage `json:"messages,omitempty"`
	OutputLen int             `json:"output_len_tokens,omitempty"`
}

// question makes request number seq of a point. Numbers of different points
// give different prompts.
func (w *writer) question(prefix string, point, seq int64) question {
	q := question{id: prefix + "-" + strconv.FormatInt(point, 10) + "-" + strconv.FormatInt(seq, 10), max: w.cfg.OutputLen, workload: w.work}
	rng := rand.New(rand.NewPCG(w.cfg.Seed, uint64(point)<<40^uint64(seq)))
	var field []byte
	switch {
	case w.work != nil:
		field = w.say(w.work.Prompt(point<<32 + seq))
	case len(w.lines) > 0:
		p := w.lines[int(seq%int64(len(w.lines)))]
		if p.OutputLen > 0 {
			q.max = p.OutputLen
		}
		field = w.line(p)
	case w.dialect.IDs:
		q.asked = w.cfg.InputLen
		field = append(make([]byte, 0, 8*q.asked+16), `"prompt":[`...)
		for i := range q.asked {
			if i > 0 {
				field = append(field, ',')
			}
			field = strconv.AppendInt(field, int64(w.pool[rng.IntN(len(w.pool))]), 10)
		}
		field = append(field, ']')
	default:
		q.asked = w.cfg.InputLen
		field = w.say(words(rng, max(int(float64(w.cfg.InputLen)/w.perWord+0.5), 1)))
	}
	q.body = w.body(field, q.max, seq)
	return q
}

// say wraps a text for the API in use.
func (w *writer) say(text string) []byte {
	if w.cfg.API == Chat {
		return append(append([]byte(`"messages":[{"role":"user","content":`), quoted(text)...), `}]`...)
	}
	return append([]byte(`"prompt":`), quoted(text)...)
}

func (w *writer) line(p prompt) []byte {
	if w.cfg.API == Chat && len(p.Messages) > 0 {
		return append([]byte(`"messages":`), p.Messages...)
	}
	return w.say(p.Prompt)
}

func (w *writer) body(promptField []byte, maxTokens int, seq int64) []byte {
	b := make([]byte, 0, len(promptField)+512)
	b = append(append(b, `{"model":`...), quoted(w.model)...)
	b = append(append(b, ','), promptField...)
	if w.cfg.API == Chat {
		b = append(b, `,"max_completion_tokens":`...)
	} else {
		b = append(b, `,"max_tokens":`...)
	}
	b = strconv.AppendInt(b, int64(maxTokens), 10)
	b = append(strconv.AppendFloat(append(b, `,"temperature":`...), w.cfg.Temperature, 'g', -1, 64), `,"stream":true`...)
	switch w.dialect.Usage {
	case usageContinuous:
		b = append(b, `,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`...)
	case usageFinal:
		b = append(b, `,"stream_options":{"include_usage":true}`...)
	}
	if w.cfg.IgnoreEOS && w.work == nil {
		b = append(b, `,"ignore_eos":true`...)
	}
	if w.cfg.Temperature > 0 {
		b = strconv.AppendUint(append(b, `,"seed":`...), (w.cfg.Seed+uint64(seq))&0x7fffffff, 10)
	}
	if w.dialect.Salt != "" {
		b = append(append(b, `,"cache_salt":`...), quoted(w.dialect.Salt)...)
	}
	if w.work != nil {
		b = append(append(b, `,"structured_outputs":`...), w.work.Field...)
	}
	return append(b, '}')
}

func quoted(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		// A string always marshals.
		return []byte(`""`)
	}
	return b
}

var vocabulary = strings.Fields(`time person year way day thing man world life hand part child eye woman place work week case point
company number group problem fact good new first last long great little own other old right big high different small large next early young
important few public bad same able river mountain window paper silver garden music winter summer bridge island market engine letter machine
forest kitchen morning evening history science number village country doctor student teacher farmer sailor writer painter singer driver`)

// words draws n words with blanks between.
func words(rng *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
	}
	return b.String()
}

// readDataset reads a file of JSON lines, each {"prompt": TEXT} or
// {"messages": [...]}, with output_len_tokens if wanted.
func readDataset(path, api string) ([]prompt, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	defer f.Close()
	return parseDataset(f, api)
}

// maxLine bounds a line of a dataset.
const maxLine = 16 << 20

func parseDataset(r io.Reader, api string) ([]prompt, error) {
	var out []prompt
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		var p prompt
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p); err != nil {
			return nil, fmt.Errorf("dataset line %d: %w: give one object a line with prompt or messages, output_len_tokens if wanted", n, err)
		}
		var messages []json.RawMessage
		switch {
		case len(p.Messages) > 0 && (json.Unmarshal(p.Messages, &messages) != nil || len(messages) == 0):
			return nil, fmt.Errorf("dataset line %d: messages is not a list with something in it", n)
		case len(p.Messages) > 0 && p.Prompt != "":
			return nil, fmt.Errorf("dataset line %d: both prompt and messages: give one", n)
		case len(p.Messages) == 0 && p.Prompt == "":
			return nil, fmt.Errorf("dataset line %d: neither prompt nor messages", n)
		case len(p.Messages) > 0 && api != Chat:
			return nil, fmt.Errorf("dataset line %d: messages need the chat API: give api chat", n)
		case p.OutputLen < 0:
			return nil, fmt.Errorf("dataset line %d: output_len_tokens %d must not be negative", n, p.OutputLen)
		}
		out = append(out, p)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read dataset: %w", err)
	}
	if len(out) == 0 {
		return nil, errors.New("dataset is empty: give one JSON object a line")
	}
	return out, nil
}
