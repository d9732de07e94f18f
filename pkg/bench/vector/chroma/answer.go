package chroma

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Answer is the parsed answer of a query. It is reused between calls: its
// slices point into the bytes given to Parse and are valid until the next
// Parse or until those bytes change.
type Answer struct {
	ids  [][]byte
	ends []int // ends[r] is where row r ends in ids
	// dist is parallel to ids when hasDist is true.
	dist    []float64
	hasDist bool
}

// Rows returns the number of query vectors the answer covers.
func (a *Answer) Rows() int { return len(a.ends) }

// IDs returns the ids of row r, nearest first as the server gave them.
func (a *Answer) IDs(r int) [][]byte { lo, hi := a.span(r); return a.ids[lo:hi] }

// Distances returns the distances of row r, or nil when the answer has none.
func (a *Answer) Distances(r int) []float64 {
	if !a.hasDist {
		return nil
	}
	lo, hi := a.span(r)
	return a.dist[lo:hi]
}

func (a *Answer) span(r int) (int, int) {
	if r == 0 {
		return 0, a.ends[0]
	}
	return a.ends[r-1], a.ends[r]
}

// Parse reads the body of a query's answer. The whole body must be JSON, ids
// a list of lists of strings, distances absent, null, or lists of finite
// numbers of the same shape; other fields are checked to be JSON and skipped.
func (a *Answer) Parse(body []byte) error {
	a.ids, a.ends, a.dist, a.hasDist = a.ids[:0], a.ends[:0], a.dist[:0], false
	if a.dist == nil {
		a.dist = make([]float64, 0, 16) // an empty row has distances too, not nil
	}
	if !utf8.Valid(body) {
		return errors.New("parse answer: not UTF-8")
	}
	s := scanner{b: body}
	if err := a.object(&s); err != nil {
		return fmt.Errorf("parse answer: byte %d: %w", s.i, err)
	}
	return nil
}

func (a *Answer) object(s *scanner) error {
	if !s.eat('{') {
		return errors.New("not an object")
	}
	var distEnds []int
	var sawIDs, sawDist bool
	for first := true; !s.eat('}'); first = false {
		if !first && !s.eat(',') {
			return errors.New("expected , or }")
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		if !s.eat(':') {
			return errors.New("expected a colon")
		}
		switch string(key) {
		case "ids":
			if sawIDs {
				return errors.New("ids given twice")
			}
			sawIDs = true
			a.ends, err = s.rows(a.ends, func() (int, error) {
				id, err := s.text()
				a.ids = append(a.ids, id)
				return len(a.ids), err
			}, 0)
		case "distances":
			if sawDist {
				return errors.New("distances given twice")
			}
			sawDist = true
			if s.null() {
				continue
			}
			a.hasDist = true
			distEnds, err = s.rows(distEnds, func() (int, error) {
				v, err := s.number()
				a.dist = append(a.dist, v)
				return len(a.dist), err
			}, 0)
		default:
			err = s.skip(0)
		}
		if err != nil {
			return err
		}
	}
	if s.space(); s.i != len(s.b) {
		return errors.New("bytes after the object")
	}
	if !sawIDs {
		return errors.New("no ids")
	}
	if a.hasDist {
		if len(distEnds) != len(a.ends) {
			return errors.New("ids and distances have different numbers of rows")
		}
		for i, e := range distEnds {
			if e != a.ends[i] {
				return errors.New("ids and distances have different lengths")
			}
		}
	}
	return nil
}

// scanner walks JSON bytes without building values.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) eat(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) word(w string) bool {
	s.space()
	if len(s.b)-s.i >= len(w) && string(s.b[s.i:s.i+len(w)]) == w {
		s.i += len(w)
		return true
	}
	return false
}

func (s *scanner) null() bool { return s.word("null") }

// rows reads [[x,...],...] and appends to ends the running count that one
// returns after each element.
func (s *scanner) rows(ends []int, one func() (int, error), n int) ([]int, error) {
	if !s.eat('[') {
		return ends, errors.New("expected a list of lists")
	}
	for first := true; !s.eat(']'); first = false {
		if !first && !s.eat(',') {
			return ends, errors.New("expected , or ]")
		}
		if !s.eat('[') {
			return ends, errors.New("expected a list")
		}
		for head := true; !s.eat(']'); head = false {
			if !head && !s.eat(',') {
				return ends, errors.New("expected , or ]")
			}
			var err error
			if n, err = one(); err != nil {
				return ends, err
			}
		}
		ends = append(ends, n)
	}
	return ends, nil
}

// text reads a string. Without escapes the result points into the input.
func (s *scanner) text() ([]byte, error) {
	if !s.eat('"') {
		return nil, errors.New("expected a string")
	}
	start := s.i
	escaped := false
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			raw := s.b[start:s.i]
			s.i++
			if !escaped {
				return raw, nil
			}
			var out string
			if err := json.Unmarshal(s.b[start-1:s.i], &out); err != nil {
				return nil, errors.New("bad escape in a string")
			}
			return []byte(out), nil
		case c == '\\':
			escaped = true
			s.i++
		case c < 0x20:
			return nil, errors.New("control character in a string")
		}
	}
	s.i = len(s.b)
	return nil, errors.New("string is cut short")
}

// number reads a JSON number; what does not fit a float64 is an error.
func (s *scanner) number() (float64, error) {
	s.space()
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	switch {
	case s.i < len(s.b) && s.b[s.i] == '0':
		s.i++
	case s.digits() == 0:
		return 0, errors.New("expected a number")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			return 0, errors.New("number without digits after its point")
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return 0, errors.New("number without digits in its exponent")
		}
	}
	v, err := strconv.ParseFloat(string(s.b[start:s.i]), 64)
	if err != nil {
		return 0, errors.New("number out of range")
	}
	return v, nil
}

func (s *scanner) digits() int {
	n := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i - n
}

// skip passes over any value; depth bounds the recursion on hostile input.
func (s *scanner) skip(depth int) error {
	if depth > 64 {
		return errors.New("nested too deep")
	}
	s.space()
	if s.i >= len(s.b) {
		return errors.New("cut short")
	}
	switch c := s.b[s.i]; c {
	case '"':
		_, err := s.text()
		return err
	case '{', '[':
		s.i++
		closing := byte('}')
		if c == '[' {
			closing = ']'
		}
		for first := true; !s.eat(closing); first = false {
			if !first && !s.eat(',') {
				return errors.New("expected , or a closing bracket")
			}
			if c == '{' {
				if _, err := s.text(); err != nil {
					return err
				}
				if !s.eat(':') {
					return errors.New("expected a colon")
				}
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case 't', 'f', 'n':
		if s.word("true") || s.word("false") || s.word("null") {
			return nil
		}
		return errors.New("unknown word")
	default:
		_, err := s.number()
		return err
	}
}
