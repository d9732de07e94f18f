package io500

import (
	"bytes"
	"fmt"
	"strings"
)

// Values are the settings of one run: "section.key" to value. Keys keep
// io500's spelling; Lookup folds case as io500 does.
type Values map[string]string

// canonical returns the spelling io500 uses of a section and key.
func canonical(section, key string) (string, bool) {
	for _, s := range schema {
		if !strings.EqualFold(s.section, section) {
			continue
		}
		for _, o := range s.options {
			if strings.EqualFold(o.key, key) {
				return s.section + "." + o.key, true
			}
		}
	}
	return "", false
}

func knownOption(section, key string) bool {
	_, ok := canonical(section, key)
	return ok
}

// reserved tells the options that the benchmark sets itself.
func reserved(section, key string) bool {
	name, _ := canonical(section, key)
	switch name {
	case "global.datadir", "global.timestamp-datadir", "global.resultdir",
		"global.timestamp-resultdir", "global.scc", "debug.stonewall-time", "debug.pause-dir":
		return true
	}
	return false
}

// Render writes an ini file that sets exactly the given values, in the order
// of io500's own list. An unknown key, or a value that io500 would cut at a
// comment sign, is an error.
func Render(v Values) ([]byte, error) {
	left := make(map[string]string, len(v))
	for name, value := range v {
		section, key, _ := strings.Cut(name, ".")
		known, ok := canonical(section, key)
		if !ok {
			return nil, fmt.Errorf("render ini: %q is not an option of io500", name)
		}
		if _, twice := left[known]; twice {
			return nil, fmt.Errorf("render ini: %q is given twice", known)
		}
		if strings.ContainsAny(value, "#;\r\n\x00") || strings.TrimSpace(value) != value {
			return nil, fmt.Errorf("render ini: io500 cannot read value %q of %s: it holds a comment sign, a line end or blanks at its ends", value, known)
		}
		left[known] = value
	}
	var b bytes.Buffer
	for _, s := range schema {
		begun := false
		for _, o := range s.options {
			value, ok := left[s.section+"."+o.key]
			if !ok {
				continue
			}
			if !begun {
				fmt.Fprintf(&b, "[%s]\n", s.section)
				begun = true
			}
			fmt.Fprintf(&b, "%s = %s\n", o.key, value)
		}
		if begun {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// ParseINI reads an ini file by io500's grammar: case of names is folded, an
// empty value leaves the option unset, a comment sign ends a value. What io500
// would refuse is a warning with its line, since older versions had other keys.
func ParseINI(file string, text []byte) (Values, []Warning) {
	out := Values{}
	var warnings []Warning
	section := ""
	for n, raw := range lines(text) {
		line := raw
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "["); ok {
			name, _, closed := strings.Cut(rest, "]")
			section = strings.TrimSpace(name)
			if !closed {
				warnings = tell(warnings, file, n, "ini_section_open", raw)
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			warnings = tell(warnings, file, n, "ini_not_a_pair", raw)
			continue
		case section == "":
			warnings = tell(warnings, file, n, "ini_key_before_section", raw)
			continue
		case value == "":
			continue
		}
		name, known := canonical(section, key)
		if !known {
			name = strings.ToLower(section) + "." + key
			warnings = tell(warnings, file, n, "ini_unknown_key", section+"."+key)
		}
		if _, twice := out[name]; twice {
			warnings = tell(warnings, file, n, "ini_key_twice", name)
		}
		out[name] = value
	}
	return out, warnings
}
