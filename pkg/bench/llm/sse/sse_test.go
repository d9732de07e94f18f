package sse

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func all(t *testing.T, src io.Reader) ([]string, error) {
	t.Helper()
	r := NewReader(src, nil)
	var out []string
	for {
		data, at, err := r.Next()
		if err != nil {
			return out, err
		}
		if at.IsZero() {
			t.Fatal("event without a stamp")
		}
		out = append(out, string(data))
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"plain":                 {"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		"no space":              {"data:a\n\n", []string{"a"}},
		"one space only is cut": {"data:  a\n\n", []string{" a"}},
		"crlf":                  {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}},
		"comment":               {": ping\n\ndata: a\n: b\n\n", []string{"a"}},
		"other fields":          {"event: x\nid: 1\nretry: 5\ndata: a\n\n", []string{"a"}},
		"event without data":    {"event: x\n\ndata: a\n\n", []string{"a"}},
		"field with our prefix": {"database: x\n\ndata: a\n\n", []string{"a"}},
		"bare field":            {"data\n\n", []string{""}},
		"several lines":         {"data: a\ndata: b\n\n", []string{"a\nb"}},
		"no blank line at end":  {"data: a\n\ndata: [DONE]", []string{"a", "[DONE]"}},
		"longer than a buffer":  {"data: " + long + "\n\ndata: b\n\n", []string{long, "b"}},
		"blank lines":           {"\n\n\ndata: a\n\n\n\n", []string{"a"}},
		"empty":                 {"", nil},
	} {
		// One read, one byte a read, halves: the events must not depend on it.
		for shape, src := range map[string]io.Reader{
			"whole": strings.NewReader(c.in), "bytes": iotest.OneByteReader(strings.NewReader(c.in)), "halves": iotest.HalfReader(strings.NewReader(c.in)),
			"error with data": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			got, err := all(t, src)
			if !errors.Is(err, io.EOF) || !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %.80q, %v", name, shape, got, err)
			}
		}
	}
}

func TestCutStream(t *testing.T) {
	t.Parallel()
	cut := io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, err := all(t, cut)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !slices.Equal(got, []string{"a"}) {
		t.Fatalf("%q, %v: a half event of a cut stream must not count", got, err)
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]io.Reader{
		"one line":   io.MultiReader(strings.NewReader("data: "), &endless{}),
		"many lines": &endless{line: "data: " + strings.Repeat("y", 4096) + "\n"},
	} {
		if _, err := all(t, src); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless repeats a line, or x, for ever.
type endless struct {
	line string
	pos  int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.line == "" {
		for i := range p {
			p[i] = 'x'
		}
		return len(p), nil
	}
	n := copy(p, e.line[e.pos:])
	e.pos = (e.pos + n) % len(e.line)
	return n, nil
}

func FuzzNext(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "data:a\r\n\r\n: c\n\ndata\n\n", "data: a\ndata: b\n\ndata: [DONE]", "\xff\x00data: \n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		whole, err := all(t, strings.NewReader(in))
		if !errors.Is(err, io.EOF) {
			t.Fatalf("%v", err)
		}
		split, err := all(t, iotest.OneByteReader(strings.NewReader(in)))
		if !errors.Is(err, io.EOF) || !slices.Equal(whole, split) {
			t.Fatalf("whole %q, by bytes %q, %v", whole, split, err)
		}
		total := 0
		for _, e := range whole {
			total += len(e)
		}
		if total > len(in) {
			t.Fatalf("%d bytes of events from %d", total, len(in))
		}
	})
}

func BenchmarkNext(b *testing.B) {
	chunk := `data: {"id":"cmpl-9c258735e05e4c0b","object":"text_completion","created":1795501383,"model":"tiny","choices":[{"index":0,"text":" within","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}` + "\n\n"
	r := NewReader(&endless{line: chunk}, nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
