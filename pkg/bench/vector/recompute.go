package vector

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"aifbench/pkg/metrics/figure"
)

// Recomputed is the figures of one point, derived anew from its raw samples.
// The figures of the generator's own account, of disk use and of the data are
// not among them: no sample holds them.
type Recomputed struct {
	Label   string
	Figures figure.Set
	Errors  map[string]int64
}

// Recompute reads records.vector.rec of a run directory and derives the
// figures of every point in it. The warning is empty unless the file was cut.
func Recompute(dir string) (points []Recomputed, warning string, err error) {
	samples, meta, warning, err := readSamples(dir)
	if err != nil {
		return nil, "", err
	}
	cfg, err := Decode([]byte(meta["config"]))
	if err != nil {
		return nil, "", fmt.Errorf("recompute figures: %w", err)
	}
	var all []facts
	if err := json.Unmarshal([]byte(meta["facts"]), &all); err != nil || len(all) != len(cfg.Vectors) {
		return nil, "", fmt.Errorf("recompute figures: the header holds no facts of the %d sizes", len(cfg.Vectors))
	}
	for i, n := range cfg.Vectors {
		first := label(n, cfg.QueryConcurrency[0])
		var coll []sample
		for _, s := range samples {
			if s.point == first && slices.Contains([]string{phaseCreate, phaseInsert, phaseSettle}, s.phase) {
				coll = append(coll, s)
			}
		}
		if len(coll) == 0 {
			continue
		}
		for _, conc := range cfg.QueryConcurrency {
			p := Recomputed{Label: label(n, conc), Errors: map[string]int64{}}
			var queries []sample
			seen := conc == cfg.QueryConcurrency[0]
			for _, s := range samples {
				if s.point != p.Label {
					continue
				}
				seen = true
				if s.phase == phaseQuery {
					queries = append(queries, s)
				}
				if s.outcome != classOK {
					p.Errors[s.phase+"."+s.outcome]++
				}
			}
			if !seen {
				continue
			}
			p.Figures = derive(coll, queries, all[i])
			points = append(points, p)
		}
	}
	return points, warning, nil
}

// classes lists the failures of one phase, most frequent first.
func classes(errs map[string]int64, phase string) string {
	var names []string
	for name := range errs {
		if strings.HasPrefix(name, phase+".") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if errs[a] != errs[b] {
			return int(errs[b] - errs[a])
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", strings.TrimPrefix(name, phase+"."), errs[name])
	}
	return strings.Join(parts, ", ")
}
