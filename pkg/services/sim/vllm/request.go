package vllm

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// request is the union of both completion requests, as far as the simulator
// goes. Unknown fields are accepted and ignored, as vLLM does.
type request struct {
	Model               string          `json:"model"`
	Prompt              json.RawMessage `json:"prompt"`
	Messages            []message       `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Stream              bool            `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage    bool `json:"include_usage"`
		ContinuousUsage bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
	Seed           *uint64          `json:"seed"`
	N              *int             `json:"n"`
	Temperature    *float64         `json:"temperature"`
	IgnoreEOS      bool             `json:"ignore_eos"`
	ReturnTokenIDs bool             `json:"return_token_ids"`
	Structured     *structured      `json:"structured_outputs"`
	ResponseFormat *responseFormat  `json:"response_format"`
	RequestID      string           `json:"request_id"`
	ToolChoice     *json.RawMessage `json:"tool_choice"`
}

type responseFormat struct {
	Type       string `json:"type"`
	JSONSchema *struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// job is a checked request: what will be said and how it ends.
type job struct {
	id        string
	chat      bool
	prompt    []int
	texts     []string // one a token, "" for tokens without text
	finish    string   // stop or length
	maxTokens int
	req       request
}

// refusal is an error of the request.
type refusal struct {
	status int
	kind   string
	msg    string
}

func bad(format string, a ...any) *refusal {
	return &refusal{http.StatusBadRequest, "BadRequestError", fmt.Sprintf(format, a...)}
}

// plan checks a request and decides its whole answer. The second refusal is
// one that vLLM sends inside a stream.
func (s *Server) plan(req request, chat bool, seq int64) (job, *refusal, *refusal) {
	j := job{chat: chat, req: req, finish: "length"}
	if req.Model != "" && req.Model != s.cfg.Model {
		return j, &refusal{http.StatusNotFound, "NotFoundError", fmt.Sprintf("The model `%s` does not exist. Valid aliases: %s.", req.Model, s.cfg.Model)}, nil
	}
	if r := s.takePrompt(&j); r != nil {
		return j, r, nil
	}
	room := s.cfg.MaxModelLen - len(j.prompt)
	if room < 1 {
		return j, bad("This model's maximum context length is %d tokens. However, your prompt contains %d input tokens.", s.cfg.MaxModelLen, len(j.prompt)), nil
	}
	j.maxTokens = 16
	if chat {
		j.maxTokens = room
	}
	for _, p := range []*int{req.MaxTokens, req.MaxCompletionTokens} {
		if p != nil {
			j.maxTokens = *p
		}
	}
	switch {
	case j.maxTokens < 1:
		return j, bad("max_tokens must be at least 1, got %d. (parameter=max_tokens, value=%d)", j.maxTokens, j.maxTokens), nil
	case req.Temperature != nil && *req.Temperature < 0:
		return j, bad("temperature must be non-negative, got %g. (parameter=temperature)", *req.Temperature), nil
	case req.N != nil && *req.N != 1:
		return j, bad("the simulator serves n=1 only"), nil
	case req.StreamOptions != nil && !req.Stream:
		return j, bad("Stream options can only be defined when `stream=True`. (parameter=stream_options)"), nil
	}
	// Longer than the room is clamped without a word, as vLLM does.
	j.maxTokens = min(j.maxTokens, room)
	seed := s.cfg.Seed ^ uint64(seq)
	if req.Seed != nil {
		seed = *req.Seed
	}
	rng := rand.New(rand.NewPCG(seed, s.cfg.Seed))
	text, constrained, err := s.constrained(req, rng)
	switch {
	case err != nil:
		return j, nil, bad("%v", err)
	case !constrained:
		j.texts = free(rng, j.maxTokens)
		if n := s.cfg.Faults.EmptyEvery; n > 0 {
			for i := n - 1; i < len(j.texts); i += n {
				j.texts[i] = ""
			}
		}
		return j, nil, nil
	}
	// The end of a constrained answer is a token of its own, without text.
	j.texts, j.finish = append(pieces(text), ""), "stop"
	if req.IgnoreEOS {
		// A grammar that is complete constrains nothing any more.
		j.finish = "length"
		j.texts = append(j.texts[:len(j.texts)-1], free(rng, max(j.maxTokens-len(j.texts)+1, 0))...)
	}
	if len(j.texts) > j.maxTokens {
		j.texts, j.finish = j.texts[:j.maxTokens], "length"
	}
	return j, nil, nil
}

func (s *Server) takePrompt(j *job) *refusal {
	if j.chat {
		if len(j.req.Messages) == 0 {
			return bad("1 validation error: messages: Field required")
		}
		for _, m := range j.req.Messages {
			j.prompt = append(j.prompt, s.encode(m.text())...)
		}
		return nil
	}
	var text string
	var ids []int
	switch {
	case len(j.req.Prompt) == 0 || string(j.req.Prompt) == "null":
		return bad("Either prompt or prompt_embeds must be provided and non-empty.")
	case json.Unmarshal(j.req.Prompt, &text) == nil:
		j.prompt = s.encode(text)
	case s.cfg.Faults.RefuseIDs:
		return bad("prompt must be a string")
	case json.Unmarshal(j.req.Prompt, &ids) == nil:
		j.prompt = ids
	default:
		return bad("the simulator takes one prompt: a string or a list of token ids")
	}
	if len(j.prompt) == 0 {
		return bad("Either prompt or prompt_embeds must be provided and non-empty.")
	}
	for _, id := range j.prompt {
		if id < 0 || id >= s.cfg.Vocab {
			return bad("Token id %d is out of vocabulary", id)
		}
	}
	return nil
}
