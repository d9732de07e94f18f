package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// maxHosts bounds an expansion, so that a hostile list cannot eat the memory.
const maxHosts = 1 << 16

// ExpandHosts lists the hosts of a Slurm host list such as
// "mel[0001-0002,0007],login1" in its own order. An empty list, unbalanced
// brackets, reversed ranges and lists of more than 65536 hosts are errors.
func ExpandHosts(list string) ([]string, error) {
	if list = strings.TrimSpace(list); list == "" {
		return nil, fmt.Errorf("expand host list: empty")
	}
	var out []string
	for _, item := range splitOutside(list) {
		hosts, err := expandItem(item)
		if err != nil {
			return nil, fmt.Errorf("expand host list %q: %w", clip(list), err)
		}
		if out = append(out, hosts...); len(out) > maxHosts {
			return nil, fmt.Errorf("expand host list %q: more than %d hosts", clip(list), maxHosts)
		}
	}
	return out, nil
}

// splitOutside splits at commas that are in no bracket.
func splitOutside(list string) []string {
	var items []string
	depth, from := 0, 0
	for i := range len(list) {
		switch list[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth <= 0 {
				items = append(items, list[from:i])
				from = i + 1
			}
		}
	}
	return append(items, list[from:])
}

// expandItem expands one item; several bracket groups multiply, the last one
// running fastest.
func expandItem(item string) ([]string, error) {
	if item == "" {
		return nil, fmt.Errorf("empty item")
	}
	out := []string{""}
	for rest := item; rest != ""; {
		plain, after, bracket := strings.Cut(rest, "[")
		if bad := strings.IndexFunc(plain, func(r rune) bool { return !hostRune(r) }); bad >= 0 {
			return nil, fmt.Errorf("%q is no host name", clip(plain))
		}
		for i := range out {
			out[i] += plain
		}
		if !bracket {
			break
		}
		inner, tail, closed := strings.Cut(after, "]")
		if !closed {
			return nil, fmt.Errorf("bracket is not closed")
		}
		numbers, err := expandNumbers(inner)
		if err != nil {
			return nil, err
		}
		if len(out)*len(numbers) > maxHosts {
			return nil, fmt.Errorf("more than %d hosts", maxHosts)
		}
		next := make([]string, 0, len(out)*len(numbers))
		for _, prefix := range out {
			for _, n := range numbers {
				next = append(next, prefix+n)
			}
		}
		out, rest = next, tail
	}
	return out, nil
}

func hostRune(r rune) bool {
	return r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// expandNumbers expands the inside of a bracket: "0001-0002,0007".
func expandNumbers(inner string) ([]string, error) {
	var out []string
	for _, part := range strings.Split(inner, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		first, err := number(lo)
		if err != nil {
			return nil, err
		}
		last := first
		if ranged {
			if last, err = number(hi); err != nil {
				return nil, err
			}
		}
		switch {
		case last < first:
			return nil, fmt.Errorf("range %q runs backwards", clip(part))
		case last-first >= uint64(maxHosts) || len(out)+int(last-first) >= maxHosts:
			return nil, fmt.Errorf("more than %d hosts", maxHosts)
		}
		for n := first; n <= last; n++ {
			out = append(out, fmt.Sprintf("%0*d", len(lo), n))
		}
	}
	return out, nil
}

func number(text string) (uint64, error) {
	if text == "" || len(text) > 18 || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%q is no number of up to 18 digits", clip(text))
	}
	return strconv.ParseUint(text, 10, 64)
}

// CompressHosts writes hosts as one host list that ExpandHosts turns back into
// the same hosts in the same order. Neighbours that share a prefix and count
// upwards are joined. Host names with characters outside [A-Za-z0-9._-] are
// errors.
func CompressHosts(hosts []string) (string, error) {
	if len(hosts) == 0 {
		return "", fmt.Errorf("compress host list: no hosts")
	}
	var items []string
	for i := 0; i < len(hosts); {
		prefix, _, ok, err := splitHost(hosts[i])
		if err != nil {
			return "", err
		}
		if !ok {
			items = append(items, hosts[i])
			i++
			continue
		}
		var parts []string
		single := true
		start := i
		for i < len(hosts) {
			p, digits, ok, err := splitHost(hosts[i])
			if err != nil {
				return "", err
			}
			if !ok || p != prefix {
				break
			}
			end := digits
			for i++; i < len(hosts) && hosts[i] == prefix+successor(end, len(digits)); i++ {
				end = successor(end, len(digits))
			}
			if end != digits {
				parts = append(parts, digits+"-"+end)
				single = false
			} else {
				parts = append(parts, digits)
			}
		}
		if single && len(parts) == 1 {
			items = append(items, hosts[start])
			continue
		}
		items = append(items, prefix+"["+strings.Join(parts, ",")+"]")
	}
	return strings.Join(items, ","), nil
}

// splitHost cuts a host name before its trailing digits; ok is false when
// there are none that fit a range.
func splitHost(host string) (prefix, digits string, ok bool, err error) {
	if host == "" || strings.IndexFunc(host, func(r rune) bool { return !hostRune(r) }) >= 0 {
		return "", "", false, fmt.Errorf("compress host list: %q is no host name", clip(host))
	}
	prefix = strings.TrimRight(host, "0123456789")
	digits = host[len(prefix):]
	return prefix, digits, digits != "" && len(digits) <= 17, nil
}

// successor is the number after digits as a range that began with width digits
// writes it.
func successor(digits string, width int) string {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%0*d", width, n+1)
}
