package figure

import (
	"cmp"
	"slices"
	"strings"
)

// Close returns at most limit names of the table that look like name, best
// first: those that hold it as a part, then those a few edits away.
func Close(name string, limit int) []string {
	type candidate struct {
		name string
		cost int
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" || len(name) > 80 {
		return nil
	}
	var found []candidate
	for _, d := range All() {
		cost := edits(name, d.Name)
		if strings.Contains(d.Name, name) || sameWords(name, d.Name) {
			cost = min(cost, 1)
		}
		if cost <= max(2, len(name)/3) {
			found = append(found, candidate{d.Name, cost})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.cost, b.cost) })
	out := make([]string, 0, limit)
	for _, c := range found {
		if len(out) == limit {
			break
		}
		out = append(out, c.name)
	}
	return out
}

// sameWords tells whether every underscore-separated word of name is a word of
// other, so that p99_ttft finds ttft_p99_ms.
func sameWords(name, other string) bool {
	have := strings.Split(other, "_")
	for _, w := range strings.Split(name, "_") {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// edits is the Levenshtein distance of two ASCII words.
func edits(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := prev[0]
		prev[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = prev[j]
			prev[j] = min(cost, prev[j]+1, prev[j-1]+1)
		}
	}
	return prev[len(b)]
}
