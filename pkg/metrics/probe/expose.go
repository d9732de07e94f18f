package probe

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ContentType is what the exposition is served as; Prometheus 3 refuses a
// target that does not say it.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// WriteText writes the sample in Prometheus' text format with the common
// labels on every series. Equal samples are equal bytes.
func WriteText(w io.Writer, s Sample, common []Label) error {
	values := append([]Value(nil), s.Values...)
	for _, m := range s.Missing {
		values = append(values, Value{Name: probeMissing, V: 1, Labels: []Label{{"what", m.What}, {"reason", m.Reason}}})
	}
	sorted := Sample{Values: values}
	sorted.normalise()
	var b strings.Builder
	rest := sorted.Values
	for _, d := range Defs() {
		head := true
		for len(rest) > 0 && rest[0].Name == d.Name {
			if head {
				fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", d.Name, escape(d.Help, false), d.Name, d.Type)
				head = false
			}
			b.WriteString(d.Name)
			writeLabels(&b, append(append([]Label(nil), common...), rest[0].Labels...))
			b.WriteByte(' ')
			b.WriteString(strconv.FormatFloat(rest[0].V, 'g', -1, 64))
			b.WriteByte('\n')
			rest = rest[1:]
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write exposition: %w", err)
	}
	return nil
}

func writeLabels(b *strings.Builder, labels []Label) {
	if len(labels) == 0 {
		return
	}
	b.WriteByte('{')
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Name)
		b.WriteString(`="`)
		b.WriteString(escape(l.Value, true))
		b.WriteByte('"')
	}
	b.WriteByte('}')
}

// escape makes text from devices and drivers safe in the format: names of
// mounts and GPUs are not ours.
func escape(s string, quotes bool) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(s, `\`, `\\`)
	s = strings.ReplaceAll(s, "\n", `\n`)
	if quotes {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
