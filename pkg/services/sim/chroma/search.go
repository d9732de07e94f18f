package chroma

import (
	"encoding/json"
	"math"
	"net/http"
	"sort"
	"strconv"
)

type hit struct {
	row  int
	dist float64
}

func (s *Server) query(c *collection, body []byte) (int, any, *apiError) {
	var in struct {
		unsupported
		Embeddings *[][]float32 `json:"query_embeddings"`
		N          *uint32      `json:"n_results"`
		Include    []string     `json:"include"`
		IDs        []string     `json:"ids"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if in.Embeddings == nil {
		return 0, nil, unprocessable("missing field `query_embeddings`")
	}
	if err := in.refused(); err != nil {
		return 0, nil, err
	}
	k := 10
	if in.N != nil {
		k = int(*in.N)
	}
	inc := includes(in.Include, []string{"documents", "metadatas", "distances"})
	var only map[string]bool
	if in.IDs != nil {
		only = map[string]bool{}
		for _, id := range in.IDs {
			only[id] = true
		}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([][]hit, len(*in.Embeddings))
	for i, q := range *in.Embeddings {
		if c.dim != 0 && len(q) != c.dim {
			return 0, nil, invalid("Collection expecting embedding with dimension of %d, got %d", c.dim, len(q))
		}
		out[i] = c.search(q, k, only)
	}
	return http.StatusOK, s.queryAnswer(c, out, inc), nil
}

// search compares the query with every record; ties come in the order stored.
func (c *collection) search(q []float32, k int, only map[string]bool) []hit {
	nq := math.Sqrt(product(q, q))
	best := make([]hit, 0, min(k, len(c.row))+1)
	for r, ok := range c.live {
		if !ok || (only != nil && !only[c.ids[r]]) {
			continue
		}
		v := c.vector(r)
		var d float64
		switch c.hnsw.Space {
		case "ip":
			d = 1 - product(q, v)
		case "cosine":
			d = 1
			if nv := math.Sqrt(product(v, v)); nv > 0 && nq > 0 {
				d = 1 - product(q, v)/(nq*nv)
			}
		default:
			for i, a := range q {
				e := float64(a) - float64(v[i])
				d += e * e
			}
		}
		if len(best) >= k && (k == 0 || d >= best[len(best)-1].dist) {
			continue
		}
		at := sort.Search(len(best), func(i int) bool { return best[i].dist > d })
		best = append(best, hit{})
		copy(best[at+1:], best[at:])
		best[at] = hit{r, d}
		if len(best) > k {
			best = best[:k]
		}
	}
	return best
}

func product(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// queryAnswer writes the answer by hand: it is the hot call.
func (s *Server) queryAnswer(c *collection, rows [][]hit, inc inclusion) rawJSON {
	b := []byte(`{"ids":`)
	b = lists(b, rows, func(b []byte, h hit) []byte {
		text, err := json.Marshal(s.faults.id(s.cfg.Faults, c.ids[h.row]))
		if err != nil {
			return append(b, "null"...)
		}
		return append(b, text...)
	})
	null := func(b []byte, _ hit) []byte { return append(b, "null"...) }
	field := func(name string, one func([]byte, hit) []byte) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		if inc.has[name] {
			b = lists(b, rows, one)
		} else {
			b = append(b, "null"...)
		}
	}
	field("embeddings", func(b []byte, h hit) []byte {
		b = append(b, '[')
		for i, v := range c.vector(h.row) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFloat(b, v)
		}
		return append(b, ']')
	})
	field("documents", null)
	field("uris", null)
	field("metadatas", null)
	field("distances", func(b []byte, h hit) []byte {
		return appendFloat(b, float32(s.faults.distance(s.cfg.Faults, h.dist)))
	})
	names, err := json.Marshal(inc.list)
	if err != nil {
		names = []byte("[]")
	}
	b = append(append(append(b, `,"include":`...), names...), '}')
	return rawJSON(b)
}

func appendFloat(b []byte, v float32) []byte {
	return strconv.AppendFloat(b, float64(v), 'g', -1, 32)
}

func lists(b []byte, rows [][]hit, one func([]byte, hit) []byte) []byte {
	b = append(b, '[')
	for i, row := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		for j, h := range row {
			if j > 0 {
				b = append(b, ',')
			}
			b = one(b, h)
		}
		b = append(b, ']')
	}
	return append(b, ']')
}
