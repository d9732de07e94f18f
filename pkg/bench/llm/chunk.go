package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// chunk is what a stream's event says, found by byte probes: quotes inside
// JSON strings are escaped, so a key in quotes before a colon is a key.
type chunk struct {
	choices bool // has a non-empty list of choices
	text    bool // has text that is not empty
	// ids is the number of token ids, -1 when the event has none to tell.
	ids int
	// usage is usage.completion_tokens, -1 without usage.
	usage int64
	// prompt is usage.prompt_tokens, -1 without usage.
	prompt int64
	// finish is the finish_reason, nil while there is none.
	finish []byte
	// failed is set for an event that carries an error.
	failed bool
}

var (
	keyChoices    = []byte(`"choices"`)
	keyText       = []byte(`"text"`)
	keyContent    = []byte(`"content"`)
	keyReasoning  = []byte(`"reasoning"`)
	keyReasoning2 = []byte(`"reasoning_content"`)
	keyToolCalls  = []byte(`"tool_calls"`)
	keyIDs        = []byte(`"token_ids"`)
	keyUsage      = []byte(`"usage"`)
	keyCompletion = []byte(`"completion_tokens"`)
	keyPrompt     = []byte(`"prompt_tokens"`)
	keyFinish     = []byte(`"finish_reason"`)
	keyError      = []byte(`"error"`)
	doneMark      = []byte("[DONE]")
	nullMark      = []byte("null")
)

// probe reads one event without decoding it. It allocates nothing.
func probe(data []byte, chat bool) chunk {
	c := chunk{ids: -1, usage: -1, prompt: -1}
	if value(data, keyChoices) == nil {
		c.failed = value(data, keyError) != nil
		c.readUsage(data)
		return c
	}
	if c.choices = listed(data, keyChoices); c.choices {
		if chat {
			c.text = filled(data, keyContent) || filled(data, keyReasoning) || filled(data, keyReasoning2) || listed(data, keyToolCalls)
		} else {
			c.text = filled(data, keyText)
		}
		if ids := value(data, keyIDs); ids != nil && ids[0] == '[' {
			c.ids = items(ids)
		}
		if f := value(data, keyFinish); f != nil && f[0] == '"' {
			if end := bytes.IndexByte(f[1:], '"'); end >= 0 {
				c.finish = f[1 : 1+end]
			}
		}
	}
	c.readUsage(data)
	return c
}

func (c *chunk) readUsage(data []byte) {
	u := value(data, keyUsage)
	if u == nil || u[0] != '{' {
		return
	}
	c.usage = number(value(u, keyCompletion))
	c.prompt = number(value(u, keyPrompt))
}

// value returns what follows key and its colon, nil when the key is missing.
func value(data, key []byte) []byte {
	for from := 0; ; {
		i := bytes.Index(data[from:], key)
		if i < 0 {
			return nil
		}
		rest := skip(data[from+i+len(key):])
		if len(rest) > 0 && rest[0] == ':' {
			if rest = skip(rest[1:]); len(rest) > 0 {
				return rest
			}
			return nil
		}
		// The same word as a value, not as a key.
		from += i + len(key)
	}
}

func skip(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// filled tells whether the key's value is a string with something in it.
func filled(data, key []byte) bool {
	v := value(data, key)
	return len(v) > 1 && v[0] == '"' && v[1] != '"'
}

// listed tells whether the key's value is a list with something in it.
func listed(data, key []byte) bool {
	v := value(data, key)
	if len(v) == 0 || v[0] != '[' {
		return false
	}
	rest := skip(v[1:])
	return len(rest) > 0 && rest[0] != ']'
}

// items counts the numbers of a flat list.
func items(list []byte) int {
	end := bytes.IndexByte(list, ']')
	if end < 0 || len(skip(list[1:end])) == 0 {
		return 0
	}
	return bytes.Count(list[:end], []byte(",")) + 1
}

// number reads a small whole number, -1 for anything else.
func number(b []byte) int64 {
	n, digits := int64(0), 0
	for digits < len(b) && digits < 18 && b[digits] >= '0' && b[digits] <= '9' {
		n = n*10 + int64(b[digits]-'0')
		digits++
	}
	if digits == 0 {
		return -1
	}
	return n
}

// appendText appends the decoded text of an event.
func appendText(dst, data []byte, chat bool) []byte {
	key := keyText
	if chat {
		key = keyContent
	}
	v := value(data, key)
	if v == nil || v[0] != '"' {
		return dst
	}
	end := 1
	for end < len(v) && v[end] != '"' {
		if v[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(v) {
		return dst
	}
	var s string
	if json.Unmarshal(v[:end+1], &s) != nil {
		return dst
	}
	return append(dst, s...)
}

// whole decodes an event completely: done for the first and the last ones, so
// that a stream of garbage is not counted.
func whole(data []byte) error {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("event is not a JSON object: %w", err)
	}
	return nil
}

// complaint takes the message out of an error document of any of the shapes
// servers use: error as an object or a string, detail, message, or plain text.
func complaint(body []byte) string {
	var doc struct {
		Error   json.RawMessage `json:"error"`
		Detail  json.RawMessage `json:"detail"`
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(body, &doc) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(doc.Error, &inner) == nil && inner.Message != "" {
			return printable(inner.Message)
		}
		for _, raw := range []json.RawMessage{doc.Error, doc.Detail, doc.Message} {
			var s string
			if json.Unmarshal(raw, &s) == nil && s != "" {
				return printable(s)
			}
			if len(raw) > 0 && !bytes.Equal(raw, nullMark) {
				return printable(string(raw))
			}
		}
	}
	return printable(string(bytes.TrimSpace(body)))
}

// maxMessage bounds foreign text that is kept.
const maxMessage = 300

// printable escapes control characters and cuts foreign text, which goes into
// results and onto terminals.
func printable(s string) string {
	runes := 0
	for i := range s {
		if runes++; runes > maxMessage {
			s = s[:i] + "..."
			break
		}
	}
	q := strconv.QuoteToGraphic(s)
	return string(bytes.ReplaceAll([]byte(q[1:len(q)-1]), []byte(`\"`), []byte(`"`)))
}
