package vllm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// grammar is a GBNF text: rules name ::= alternatives of sequences of
// literals, classes, names and groups, each with * + or ?.
type grammar struct {
	src   string
	pos   int
	steps int // of a derivation that are left
	rules map[string]node
}

// node writes one derivation.
type node func(b *strings.Builder, g *grammar, rng *rand.Rand, depth int) error

// maxText bounds a derivation; recursive grammars have no longest text.
const maxText = 1 << 16

func fromGrammar(src string, rng *rand.Rand) (string, error) {
	g := &grammar{src: src, steps: maxText, rules: map[string]node{}}
	if err := g.parse(); err != nil {
		return "", refused("%v", err)
	}
	var b strings.Builder
	if err := g.rule("root")(&b, g, rng, 0); err != nil {
		return "", refused("%v", err)
	}
	return b.String(), nil
}

func (g *grammar) parse() error {
	for g.space(true); g.pos < len(g.src); g.space(true) {
		name := g.name()
		if name == "" {
			return fmt.Errorf("rule name expected at byte %d", g.pos)
		}
		g.space(false)
		if !strings.HasPrefix(g.src[g.pos:], "::=") {
			return fmt.Errorf("::= expected at byte %d", g.pos)
		}
		g.pos += 3
		n, err := g.alternatives(0)
		if err != nil {
			return err
		}
		g.rules[name] = n
	}
	if g.rules["root"] == nil {
		return errors.New("no rule root")
	}
	return nil
}

// space skips blanks and comments, and line ends when all is set.
func (g *grammar) space(all bool) {
	for g.pos < len(g.src) {
		switch c := g.src[g.pos]; {
		case c == ' ' || c == '\t' || all && (c == '\n' || c == '\r'):
			g.pos++
		case c == '#':
			for g.pos < len(g.src) && g.src[g.pos] != '\n' {
				g.pos++
			}
		default:
			return
		}
	}
}

func (g *grammar) name() string {
	start := g.pos
	for g.pos < len(g.src) {
		c := g.src[g.pos]
		if c|32 < 'a' || c|32 > 'z' {
			if c != '_' && c != '-' && (c < '0' || c > '9') {
				break
			}
		}
		g.pos++
	}
	return g.src[start:g.pos]
}

func (g *grammar) alternatives(depth int) (node, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	var options []node
	for {
		seq, err := g.sequence(depth)
		if err != nil {
			return nil, err
		}
		options = append(options, seq)
		// Inside a group, and before a |, a line may end.
		mark := g.pos
		g.space(true)
		if g.pos >= len(g.src) || g.src[g.pos] != '|' {
			if depth == 0 {
				g.pos = mark
			}
			break
		}
		g.pos++
		g.space(true)
	}
	return func(b *strings.Builder, g *grammar, rng *rand.Rand, d int) error {
		// Deep in a recursion the last alternative is taken: by custom it ends it.
		k := len(options) - 1
		if d < maxDepth {
			k = rng.IntN(len(options))
		}
		return options[k](b, g, rng, d)
	}, nil
}

func (g *grammar) sequence(depth int) (node, error) {
	var parts []node
	for {
		g.space(depth > 0)
		if g.pos >= len(g.src) || strings.IndexByte("|)\n\r", g.src[g.pos]) >= 0 {
			break
		}
		part, err := g.item(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, g.repeated(part))
	}
	return func(b *strings.Builder, g *grammar, rng *rand.Rand, d int) error {
		if g.steps--; g.steps < 0 {
			return errors.New("grammar is too large")
		}
		for _, p := range parts {
			if err := p(b, g, rng, d); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (g *grammar) repeated(part node) node {
	if g.pos >= len(g.src) {
		return part
	}
	lo, hi := 0, 0
	switch g.src[g.pos] {
	case '*':
		lo, hi = 0, 3
	case '+':
		lo, hi = 1, 4
	case '?':
		lo, hi = 0, 1
	default:
		return part
	}
	g.pos++
	return func(b *strings.Builder, g *grammar, rng *rand.Rand, d int) error {
		for range lo + rng.IntN(hi-lo+1) {
			if err := part(b, g, rng, d); err != nil {
				return err
			}
		}
		return nil
	}
}

func (g *grammar) item(depth int) (node, error) {
	switch c := g.src[g.pos]; c {
	case '"':
		text, err := g.literal()
		return func(b *strings.Builder, _ *grammar, _ *rand.Rand, _ int) error {
			if b.Len()+len(text) > maxText {
				return errors.New("text is too long")
			}
			b.WriteString(text)
			return nil
		}, err
	case '[':
		end := strings.IndexByte(g.src[g.pos:], ']')
		if end < 0 {
			return nil, fmt.Errorf("class without end at byte %d", g.pos)
		}
		class := g.src[g.pos : g.pos+end+1]
		g.pos += end + 1
		return func(b *strings.Builder, _ *grammar, rng *rand.Rand, _ int) error {
			text, err := fromRegex(class, rng)
			b.WriteString(text)
			return err
		}, nil
	case '(':
		g.pos++
		n, err := g.alternatives(depth + 1)
		if err != nil {
			return nil, err
		}
		if g.pos >= len(g.src) || g.src[g.pos] != ')' {
			return nil, fmt.Errorf(") expected at byte %d", g.pos)
		}
		g.pos++
		return n, nil
	default:
		name := g.name()
		if name == "" {
			return nil, fmt.Errorf("unexpected %q at byte %d", c, g.pos)
		}
		return g.rule(name), nil
	}
}

// rule looks its name up when it is derived, since rules may come in any order.
func (g *grammar) rule(name string) node {
	return func(b *strings.Builder, g *grammar, rng *rand.Rand, d int) error {
		n := g.rules[name]
		if n == nil {
			return fmt.Errorf("no rule %s", name)
		}
		if g.steps--; g.steps < 0 || d > 2*maxDepth || b.Len() > maxText {
			return errors.New("recursion without end")
		}
		return n(b, g, rng, d+1)
	}
}

func (g *grammar) literal() (string, error) {
	var b strings.Builder
	for i := g.pos + 1; i < len(g.src); i++ {
		switch c := g.src[i]; {
		case c == '"':
			g.pos = i + 1
			return b.String(), nil
		case c == '\\' && i+1 < len(g.src):
			i++
			switch g.src[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(g.src[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("literal without end at byte %d", g.pos)
}
