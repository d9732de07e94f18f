package io500

import (
	"iter"
	"strings"
)

// Warning is an oddity of one line of one file that the parser put up with.
type Warning struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Code string `json:"code"`
	Text string `json:"text"`
}

// maxText bounds what a warning repeats of a file that may hold anything.
const maxText = 200

// tell appends a warning with its text bounded and printable.
func tell(list []Warning, file string, line int, code, text string) []Warning {
	return append(list, Warning{file, line, code, printable(text)})
}

func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\ufffd' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

// lines iterates over the lines of text, counted from 1, without their ends.
func lines(text []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if !yield(n, strings.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}
