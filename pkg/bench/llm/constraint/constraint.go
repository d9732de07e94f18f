// Package constraint owns the built-in structured-output workloads: what is
// asked of the server and how its answer is judged. Its judges are its own, so
// that a server is not measured by its own rules. It must not know HTTP.
package constraint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// The kinds of constraints.
const (
	JSON    = "json"
	Regex   = "regex"
	Choice  = "choice"
	Grammar = "grammar"
)

// Kinds lists them.
var Kinds = []string{JSON, Regex, Choice, Grammar}

// Verdict is how one answer was judged. Parsed is set for every kind: an
// answer of another kind than JSON parses when it is not empty.
type Verdict struct {
	Parses bool
	Valid  bool
}

// Workload is one constraint with prompts and a judge.
type Workload struct {
	Kind string
	// Field is the value of structured_outputs.
	Field json.RawMessage
	ask   func(i int64) string
	judge func(text string) Verdict
}

// Prompt is the text that asks for answer i. Prompts differ, so that no cache
// of prefixes or of answers helps.
func (w Workload) Prompt(i int64) string { return w.ask(i) }

// Judge tells whether an answer follows the constraint.
func (w Workload) Judge(text string) Verdict { return w.judge(text) }

var (
	cities  = []string{"Amsterdam", "Bergen", "Cork", "Dresden"}
	choices = []string{"positive", "negative", "neutral"}
	pattern = `[a-z]{3}-[0-9]{4}`
	// The grammar's language is finite; sqlLanguage is the same by other means.
	sqlGrammar  = "root ::= \"SELECT \" col \" FROM \" tab cond?\ncol ::= \"a\" | \"b\" | \"c\"\ntab ::= \"t1\" | \"t2\"\ncond ::= \" WHERE \" col \" = \" digit\ndigit ::= [0-9]\n"
	sqlLanguage = regexp.MustCompile(`^SELECT [abc] FROM t[12]( WHERE [abc] = [0-9])?$`)
)

// For returns the workload of a kind.
func For(kind string) (Workload, error) {
	switch kind {
	case JSON:
		return workload(kind, map[string]any{"json": map[string]any{
			"type": "object",
			"properties": map[string]any{
				"city":   map[string]any{"type": "string", "enum": cities},
				"age":    map[string]any{"type": "integer", "minimum": 0, "maximum": 120},
				"member": map[string]any{"type": "boolean"},
			},
			"required":             []string{"city", "age", "member"},
			"additionalProperties": false,
		}}, "Describe customer %d as a JSON object with city, age and member.", judgeCustomer)
	case Regex:
		re := regexp.MustCompile(`^(?:` + pattern + `)$`)
		return workload(kind, map[string]any{"regex": pattern}, "Give the part number of item %d: three small letters, a dash, four digits.", whole(re.MatchString))
	case Choice:
		return workload(kind, map[string]any{"choice": choices}, "Review %d: it works as it should. The feeling is positive, negative or neutral:",
			whole(func(s string) bool { return slices.Contains(choices, s) }))
	case Grammar:
		return workload(kind, map[string]any{"grammar": sqlGrammar}, "Write SQL query %d over the tables t1 and t2 with columns a, b, c.", whole(sqlLanguage.MatchString))
	}
	return Workload{}, fmt.Errorf("structured kind %q: give one of %s", kind, strings.Join(Kinds, ", "))
}

// Canary returns a constraint of the kind that no free answer satisfies by
// chance, so that a server which accepts the field and ignores it is caught.
func Canary(kind string) (Workload, error) {
	const ask = "Say hello. (%d)"
	switch kind {
	case JSON:
		return workload(kind, map[string]any{"json": map[string]any{
			"type": "object", "properties": map[string]any{"aif": map[string]any{"type": "string", "enum": []string{"k7q"}}},
			"required": []string{"aif"}, "additionalProperties": false,
		}}, ask, func(text string) Verdict {
			// White space is free, and a model without sense may fill the whole
			// answer with it: what there is must begin as the only answer does.
			packed := strings.Join(strings.Fields(text), "")
			ok := packed != "" && strings.HasPrefix(`{"aif":"k7q"}`, packed)
			return Verdict{Parses: json.Valid([]byte(text)), Valid: ok}
		})
	case Regex:
		re := regexp.MustCompile(`^aif-[0-9]{3}$`)
		return workload(kind, map[string]any{"regex": `aif-[0-9]{3}`}, ask, whole(re.MatchString))
	case Choice:
		return workload(kind, map[string]any{"choice": []string{"aif-k7q", "aif-z3x"}}, ask, whole(func(s string) bool { return s == "aif-k7q" || s == "aif-z3x" }))
	case Grammar:
		re := regexp.MustCompile(`^aif-[0-9][0-9]$`)
		return workload(kind, map[string]any{"grammar": "root ::= \"aif-\" [0-9] [0-9]\n"}, ask, whole(re.MatchString))
	}
	return Workload{}, fmt.Errorf("structured kind %q: give one of %s", kind, strings.Join(Kinds, ", "))
}

func workload(kind string, field map[string]any, ask string, judge func(string) Verdict) (Workload, error) {
	doc, err := json.Marshal(field)
	if err != nil {
		return Workload{}, fmt.Errorf("encode constraint %s: %w", kind, err)
	}
	return Workload{Kind: kind, Field: doc, ask: func(i int64) string { return fmt.Sprintf(ask, i) }, judge: judge}, nil
}

func whole(match func(string) bool) func(string) Verdict {
	return func(text string) Verdict { return Verdict{Parses: text != "", Valid: match(text)} }
}

// judgeCustomer checks the built-in schema by hand.
func judgeCustomer(text string) Verdict {
	if !json.Valid([]byte(text)) {
		return Verdict{}
	}
	v := Verdict{Parses: true}
	var doc map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &doc) != nil || len(doc) != 3 || repeatsKey(text) {
		return v
	}
	var city string
	var member *bool
	// json.Unmarshal into *T takes null for nothing; all three are required.
	if json.Unmarshal(doc["city"], &city) != nil || !slices.Contains(cities, city) {
		return v
	}
	if json.Unmarshal(doc["member"], &member) != nil || member == nil {
		return v
	}
	v.Valid = wholeNumber(doc["age"], 0, 120)
	return v
}

// wholeNumber takes 7, 7.0 and 70e-1 for whole, as JSON Schema does.
func wholeNumber(raw json.RawMessage, lo, hi float64) bool {
	var f *float64
	if json.Unmarshal(raw, &f) != nil || f == nil {
		return false
	}
	return *f >= lo && *f <= hi && *f == float64(int64(*f))
}

// repeatsKey tells whether the object names a member twice, which a map hides.
func repeatsKey(text string) bool {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	seen := map[string]bool{}
	depth, key := 0, false
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) || err != nil {
			return false
		}
		switch t := tok.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			key = depth == 1
		case string:
			if depth == 1 && key {
				if seen[t] {
					return true
				}
				seen[t] = true
				key = false
				continue
			}
			key = depth == 1
		default:
			key = depth == 1
		}
	}
}
