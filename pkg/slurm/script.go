package slurm

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"
)

// Render executes a job script's template. Data that the template names and
// the value lacks is an error. Two functions quote: sh for every value in the
// script's body (a list becomes one word an element), directive for a value on
// an #SBATCH line.
func Render(name, text string, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"sh": quoteAny, "directive": Directive,
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, data); err != nil {
		return nil, fmt.Errorf("render template %s: %w", name, err)
	}
	return buf.Bytes(), nil
}

// quoteAny quotes scalars and lists of strings; anything else has no one word.
func quoteAny(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return Quote(v)
	case []string:
		words := make([]string, len(v))
		for i, w := range v {
			var err error
			if words[i], err = Quote(w); err != nil {
				return "", err
			}
		}
		return strings.Join(words, " "), nil
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, bool, float32, float64, fmt.Stringer:
		return Quote(fmt.Sprint(v))
	}
	return "", fmt.Errorf("quote %T: want a string, a list of strings, a number or a bool", v)
}

// Quote writes text as one word of bash. NUL, which no argument can hold, is
// an error.
func Quote(text string) (string, error) {
	if strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("quote for shell: value has a NUL byte")
	}
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		q, err := syntax.Quote(text, syntax.LangBash)
		if err != nil {
			return "", fmt.Errorf("quote for shell: %w", err)
		}
		if !strings.HasPrefix(q, "$'") { // U+FFFD is printable, and still escaped
			return q, nil
		}
	}
	// bash turns \u escapes into bytes by its locale, so in the C locale of a
	// batch job they would come out as themselves. Octal bytes always hold, and
	// a raw CR would make sbatch refuse the whole script.
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String(), nil
}
