package vllm

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// structured is the field structured_outputs; exactly one kind must be given.
type structured struct {
	JSON       json.RawMessage `json:"json"`
	Regex      *string         `json:"regex"`
	Choice     []string        `json:"choice"`
	Grammar    *string         `json:"grammar"`
	JSONObject bool            `json:"json_object"`
}

// vllmWords is an error in vLLM's own words, which begin with a capital.
type vllmWords string

func (e vllmWords) Error() string { return string(e) }

func refused(format string, a ...any) error {
	return vllmWords("Grammar error: " + fmt.Sprintf(format, a...))
}

// constrained returns a text that satisfies the request's constraint; ok is
// false when there is none, or the server was told to ignore it.
func (s *Server) constrained(req request, rng *rand.Rand) (text string, ok bool, err error) {
	c := req.Structured
	if f := req.ResponseFormat; c == nil && f != nil {
		switch f.Type {
		case "json_object":
			c = &structured{JSONObject: true}
		case "json_schema":
			if f.JSONSchema == nil {
				return "", false, errors.New("response_format.json_schema is required")
			}
			c = &structured{JSON: f.JSONSchema.Schema}
		}
	}
	if c == nil {
		return "", false, nil
	}
	kinds := 0
	for _, given := range []bool{len(c.JSON) > 0, c.Regex != nil, c.Choice != nil, c.Grammar != nil, c.JSONObject} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return "", false, vllmWords(fmt.Sprintf("You must use one kind of structured outputs constraint but %d are specified", kinds))
	}
	switch {
	case len(c.JSON) > 0:
		text, err = fromSchemaText(c.JSON, rng)
	case c.Regex != nil:
		text, err = fromRegex(*c.Regex, rng)
	case c.Grammar != nil:
		text, err = fromGrammar(*c.Grammar, rng)
	case c.JSONObject:
		text = `{"simulator": true, "n": ` + strconv.Itoa(rng.IntN(1000)) + `}`
	case len(c.Choice) == 0:
		err = vllmWords("Choice '[]' cannot be an empty list")
	default:
		text = c.Choice[rng.IntN(len(c.Choice))]
	}
	return text, err == nil && !s.cfg.Faults.IgnoreStructured, err
}

func fromSchemaText(raw json.RawMessage, rng *rand.Rand) (string, error) {
	// A schema may come as an object or as its text.
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return "", refused("schema is not JSON: %v", err)
	}
	var b strings.Builder
	if err := fromSchema(&b, schema, rng, 0); err != nil {
		return "", err
	}
	return b.String(), nil
}

// maxDepth bounds nested schemas and grammars.
const maxDepth = 32

// fromSchema writes one value; the subset is what small benchmark schemas use.
func fromSchema(b *strings.Builder, schema map[string]any, rng *rand.Rand, depth int) error {
	if depth > maxDepth || b.Len() > maxText {
		return refused("schema is nested too deeply or its value too long")
	}
	value := func(v any) error {
		doc, err := json.Marshal(v)
		b.Write(doc)
		return err
	}
	if v, ok := schema["const"]; ok {
		return value(v)
	}
	if list, ok := schema["enum"].([]any); ok && len(list) > 0 {
		return value(list[rng.IntN(len(list))])
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		if list, ok := schema[k].([]any); ok && len(list) > 0 {
			if first, ok := list[0].(map[string]any); ok {
				return fromSchema(b, first, rng, depth+1)
			}
		}
	}
	switch kind, _ := schema["type"].(string); kind {
	case "object":
		props, _ := schema["properties"].(map[string]any)
		names := make([]string, 0, len(props))
		for n := range props {
			names = append(names, n)
		}
		slices.Sort(names)
		b.WriteByte('{')
		for i, n := range names {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := value(n); err != nil {
				return err
			}
			b.WriteString(": ")
			sub, _ := props[n].(map[string]any)
			if err := fromSchema(b, sub, rng, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case "array":
		n := size(schema, "minItems", 1)
		if most := size(schema, "maxItems", n+2); most > n {
			n += rng.IntN(most - n + 1)
		}
		items, _ := schema["items"].(map[string]any)
		b.WriteByte('[')
		for i := range n {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := fromSchema(b, items, rng, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case "string":
		if p, ok := schema["pattern"].(string); ok {
			text, err := fromRegex(p, rng)
			if err != nil {
				return err
			}
			return value(text)
		}
		return value(letters(rng, max(size(schema, "minLength", 1), min(size(schema, "maxLength", 6), 6))))
	case "integer":
		lo := bound(schema, "minimum", 0)
		hi := bound(schema, "maximum", lo+99)
		return value(int64(lo) + rng.Int64N(int64(max(hi-lo, 0))+1))
	case "number":
		lo := bound(schema, "minimum", 0)
		return value(lo + rng.Float64()*max(bound(schema, "maximum", lo+1)-lo, 0))
	case "boolean":
		return value(rng.IntN(2) == 1)
	case "null", "":
		b.WriteString("null")
		return nil
	default:
		return refused("Invalid type: %s", kind)
	}
}

// bound reads a number of the schema, kept where a float counts whole numbers.
func bound(schema map[string]any, key string, otherwise float64) float64 {
	v, ok := schema[key].(float64)
	if !ok {
		v = otherwise
	}
	return min(max(v, -1<<52), 1<<52)
}

// size reads a length of the schema, kept in 0..1000.
func size(schema map[string]any, key string, otherwise int) int {
	return int(min(max(bound(schema, key, float64(otherwise)), 0), 1000))
}

func letters(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rng.IntN(26))
	}
	return string(b)
}

// fromRegex writes a text that matches the whole pattern.
func fromRegex(pattern string, rng *rand.Rand) (string, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", refused("%v", err)
	}
	var b strings.Builder
	steps := maxText
	if err := match(&b, re, rng, &steps); err != nil {
		return "", err
	}
	return b.String(), nil
}

// match writes one text of re; steps bounds the work, which nested repeats
// multiply.
func match(b *strings.Builder, re *syntax.Regexp, rng *rand.Rand, steps *int) error {
	if *steps--; *steps < 0 {
		return refused("pattern is too large")
	}
	repeat := func(lo, hi int) error {
		n := lo
		if hi > lo {
			n += rng.IntN(hi - lo + 1)
		}
		for range n {
			if err := match(b, re.Sub[0], rng, steps); err != nil {
				return err
			}
		}
		return nil
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return refused("empty character class")
		}
		// The first range is printable in any class a benchmark uses.
		k := 2 * rng.IntN(len(re.Rune)/2)
		lo, hi := re.Rune[k], min(re.Rune[k+1], re.Rune[k]+127)
		b.WriteRune(lo + rng.Int32N(hi-lo+1))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('a' + byte(rng.IntN(26)))
	case syntax.OpCapture:
		return match(b, re.Sub[0], rng, steps)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if err := match(b, sub, rng, steps); err != nil {
				return err
			}
		}
	case syntax.OpAlternate:
		return match(b, re.Sub[rng.IntN(len(re.Sub))], rng, steps)
	case syntax.OpStar:
		return repeat(0, 3)
	case syntax.OpPlus:
		return repeat(1, 4)
	case syntax.OpQuest:
		return repeat(0, 1)
	case syntax.OpRepeat:
		hi := re.Max
		if hi < 0 {
			hi = re.Min + 3
		}
		return repeat(re.Min, hi)
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText:
	default:
		return refused("the simulator does not follow %v", re.Op)
	}
	return nil
}
