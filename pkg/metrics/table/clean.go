package table

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes text of foreign origin safe to print on one line of a terminal:
// control characters, line and paragraph separators, bidirectional overrides,
// invisible format characters and bytes that are not UTF-8 become visible
// escapes (\n, \x1b, \u202e). Everything else stays as it is.
func Clean(s string) string {
	dirty := false
	for i, r := range s {
		if unsafeRune(r) || (r == utf8.RuneError && badByte(s[i:])) {
			dirty = true
			break
		}
	}
	if !dirty {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unsafeRune(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unsafeRune(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case unsafeRune(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

func badByte(s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	return size == 1
}

// unsafeRune covers Cc (C0, DEL, C1), Cf (bidi marks and overrides, zero-width
// characters, tags, soft hyphen, BOM), Zl, Zp, private use and surrogates.
func unsafeRune(r rune) bool {
	if r >= 0x20 && r < 0x7f {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}
