package archive

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// minSecret is the shortest secret that is searched for.
const minSecret = 8

// scanner looks for needles in a stream, across the borders of its chunks.
type scanner struct {
	needles [][]byte
	tail    []byte
	keep    int
	found   bool
}

// needles returns every form in which a secret could stand in a file: itself,
// without surrounding blanks, JSON- and URL-escaped, and the three base64 forms
// a secret has depending on where in a longer text it begins (basic auth
// headers). What a member holds in compressed form is not searched.
func needles(secrets [][]byte) ([][]byte, error) {
	var out [][]byte
	for _, s := range secrets {
		s = bytes.TrimSpace(s)
		if len(s) == 0 {
			continue
		}
		if len(s) < minSecret {
			return nil, fmt.Errorf("search for secrets: one has %d bytes, at least %d are needed to tell it from chance", len(s), minSecret)
		}
		out = append(out, s)
		if quoted, err := json.Marshal(string(s)); err == nil && !bytes.Equal(quoted[1:len(quoted)-1], s) {
			out = append(out, quoted[1:len(quoted)-1])
		}
		if escaped := url.QueryEscape(string(s)); escaped != string(s) {
			out = append(out, []byte(escaped))
		}
		for shift := range 3 {
			padded := append(make([]byte, shift), s...)
			for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				text := []byte(enc.EncodeToString(padded))
				// The first characters mix with what stands before the
				// secret, the last with what follows: compare the middle.
				from := []int{0, 2, 3}[shift]
				to := len(text)
				if len(padded)%3 != 0 {
					to--
				}
				if to-from >= minSecret {
					out = append(out, text[from:to])
				}
			}
		}
	}
	return out, nil
}

func newScanner(needles [][]byte) *scanner {
	s := &scanner{needles: needles}
	for _, n := range needles {
		s.keep = max(s.keep, len(n)-1)
	}
	return s
}

// errSecret tells the reader that a needle was found.
var errSecret = errors.New("secret found")

// Write searches p together with the end of what came before.
func (s *scanner) Write(p []byte) (int, error) {
	if len(s.needles) == 0 {
		return len(p), nil
	}
	// The border: the kept tail and as much of p as a needle can reach into.
	border := append(append([]byte(nil), s.tail...), p[:min(len(p), s.keep)]...)
	for _, n := range s.needles {
		if bytes.Contains(border, n) || bytes.Contains(p, n) {
			s.found = true
			return 0, errSecret
		}
	}
	if len(p) >= s.keep {
		s.tail = append(s.tail[:0], p[len(p)-s.keep:]...)
	} else {
		s.tail = append(s.tail, p...)
		if extra := len(s.tail) - s.keep; extra > 0 {
			s.tail = append(s.tail[:0], s.tail[extra:]...)
		}
	}
	return len(p), nil
}
