package slurm

import (
	"errors"
	"fmt"
	"strings"
)

// Directives lists the words of a script's #SBATCH lines as sbatch reads them:
// lines up to the first that is neither empty nor a comment, blanks between
// words, double and single quotes, a backslash before any byte, an unquoted #
// for a comment.
func Directives(script []byte) ([]string, error) {
	var out []string
	n := 0
	for line := range strings.Lines(string(script)) {
		n++
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "#SBATCH"); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
			words, err := directiveWords(rest)
			if err != nil {
				return nil, fmt.Errorf("read #SBATCH lines: line %d: %w", n, err)
			}
			out = append(out, words...)
			continue
		}
		if trimmed := strings.TrimSpace(line); trimmed != "" && trimmed[0] != '#' {
			break
		}
	}
	return out, nil
}

func directiveWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open := false // a word has begun, be it empty
	quote := byte(0)
	flush := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			if i++; i == len(line) {
				return nil, errors.New("ends in a backslash")
			}
			word.WriteByte(line[i])
			open = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, open = c, true
		case c == '#':
			flush()
			return words, nil
		case c == ' ' || c == '\t':
			flush()
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("quote is not closed")
	}
	flush()
	return words, nil
}
