package chroma

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"sync"
)

// collection holds records in the order they came. Deleted rows stay as holes.
type collection struct {
	id, name, tenant, database string
	hnsw                       hnsw
	metadata                   json.RawMessage
	segment                    string
	dir                        string

	mu    sync.RWMutex
	dim   int
	ids   []string
	live  []bool
	flat  []float32
	row   map[string]int
	saved int // records in the snapshot
}

func (c *collection) count() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.row)
}

func (c *collection) doc() map[string]any {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var dim, meta any
	if c.dim > 0 {
		dim = c.dim
	}
	if len(c.metadata) > 0 {
		meta = c.metadata
	}
	return map[string]any{
		"id": c.id, "name": c.name, "metadata": meta, "dimension": dim, "tenant": c.tenant, "database": c.database,
		"log_position": 0, "version": 0,
		"configuration_json": map[string]any{"hnsw": map[string]any{
			"space": c.hnsw.Space, "ef_construction": c.hnsw.EfConstruction, "ef_search": c.hnsw.EfSearch,
			"max_neighbors": c.hnsw.MaxNeighbors, "resize_factor": c.hnsw.ResizeFactor, "sync_threshold": c.hnsw.SyncThreshold,
		}, "spann": nil, "embedding_function": nil},
	}
}

// vectors reads embeddings: all lists of numbers, or all base64 strings.
func vectors(raw json.RawMessage) ([][]float32, *apiError) {
	const mixed = "embeddings: data did not match any variant of untagged enum EmbeddingsPayload"
	var wide [][]float64
	if json.Unmarshal(raw, &wide) == nil && wide != nil {
		out := make([][]float32, len(wide))
		for i, row := range wide {
			out[i] = make([]float32, len(row))
			for j, v := range row {
				out[i][j] = float32(v)
				if math.IsInf(float64(out[i][j]), 0) {
					return nil, invalid("Validation error: embeddings: Embeddings must not contain NaN or Infinity values")
				}
			}
		}
		return out, nil
	}
	var text []string
	if json.Unmarshal(raw, &text) != nil || text == nil {
		return nil, unprocessable(mixed)
	}
	out := make([][]float32, len(text))
	for i, t := range text {
		b, err := base64.StdEncoding.DecodeString(t)
		if err != nil {
			return nil, invalid("Invalid base64 string: %v", err)
		}
		if len(b)%4 != 0 {
			return nil, invalid("Invalid byte length: %d bytes cannot be converted to f32 values (must be divisible by 4)", len(b))
		}
		out[i] = make([]float32, len(b)/4)
		for j := range out[i] {
			v := math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, invalid("Non-finite float value at embedding index %d: %v", j, v)
			}
			out[i][j] = v
		}
	}
	return out, nil
}

func (s *Server) add(c *collection, body []byte) (int, any, *apiError) {
	var in struct {
		IDs        *[]string       `json:"ids"`
		Embeddings json.RawMessage `json:"embeddings"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if in.IDs == nil {
		return 0, nil, unprocessable("missing field `ids`")
	}
	vecs, err := vectors(in.Embeddings)
	if err != nil {
		return 0, nil, err
	}
	if len(vecs) != len(*in.IDs) {
		return 0, nil, invalid("Inconsistent number of IDs, embeddings, documents, URIs and metadatas")
	}
	for i, id := range *in.IDs {
		if id == "" {
			return 0, nil, invalid("Empty ID, ID must have at least one character")
		}
		if len(vecs[i]) != len(vecs[0]) {
			return 0, nil, invalid("Inconsistent dimensions in provided embeddings")
		}
	}
	if len(vecs) == 0 {
		return http.StatusCreated, map[string]any{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dim == 0 {
		c.dim = len(vecs[0])
	}
	if c.dim != len(vecs[0]) {
		return 0, nil, invalid("Collection expecting embedding with dimension of %d, got %d", c.dim, len(vecs[0]))
	}
	for i, id := range *in.IDs {
		// An id that exists is ignored, and the answer is 201 all the same.
		if _, old := c.row[id]; old || s.faults.drops(s.cfg.Faults) {
			continue
		}
		c.row[id] = len(c.ids)
		c.ids = append(c.ids, id)
		c.live = append(c.live, true)
		c.flat = append(c.flat, vecs[i]...)
	}
	if err := c.snapshot(); err != nil {
		return 0, nil, &apiError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	return http.StatusCreated, map[string]any{}, nil
}

// unsupported names what this store leaves out of a request, rather than
// ignoring it.
type unsupported struct {
	Where         json.RawMessage `json:"where"`
	WhereDocument json.RawMessage `json:"where_document"`
}

func (u unsupported) refused() *apiError {
	for name, m := range map[string]json.RawMessage{"where": u.Where, "where_document": u.WhereDocument} {
		if t := string(m); t != "" && t != "null" && t != "{}" {
			return unimplemented("aifbench-sim has no filters (%s)", name)
		}
	}
	return nil
}

func (s *Server) get(c *collection, body []byte) (int, any, *apiError) {
	var in struct {
		unsupported
		IDs     []string `json:"ids"`
		Include []string `json:"include"`
		Limit   *int     `json:"limit"`
		Offset  int      `json:"offset"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if err := in.refused(); err != nil {
		return 0, nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	wanted := map[string]bool{}
	for _, id := range in.IDs {
		wanted[id] = true
	}
	ids, embeddings := []string{}, [][]float32{}
	skip := in.Offset
	for r, id := range c.ids {
		if !c.live[r] || (in.IDs != nil && !wanted[id]) {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		if in.Limit != nil && len(ids) >= *in.Limit {
			break
		}
		ids = append(ids, id)
		embeddings = append(embeddings, c.vector(r))
	}
	inc := includes(in.Include, []string{"documents", "metadatas"})
	doc := map[string]any{"ids": ids, "embeddings": nil, "documents": nil, "uris": nil, "metadatas": nil, "include": inc.list}
	nulls := make([]any, len(ids))
	if inc.has["embeddings"] {
		doc["embeddings"] = embeddings
	}
	for _, k := range []string{"documents", "metadatas", "uris"} {
		if inc.has[k] {
			doc[k] = nulls
		}
	}
	return http.StatusOK, doc, nil
}

type inclusion struct {
	list []string
	has  map[string]bool
}

func includes(asked, missing []string) inclusion {
	if asked == nil {
		asked = missing
	}
	out := inclusion{list: asked, has: map[string]bool{}}
	for _, k := range asked {
		out.has[k] = true
	}
	return out
}

func (s *Server) deleteRecords(c *collection, body []byte) (int, any, *apiError) {
	var in struct {
		unsupported
		IDs []string `json:"ids"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if err := in.refused(); err != nil {
		return 0, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range in.IDs {
		if r, ok := c.row[id]; ok {
			c.live[r] = false
			delete(c.row, id)
		}
	}
	// Chroma counts the ids asked for, missing ones too.
	return http.StatusOK, map[string]int{"deleted": len(in.IDs)}, nil
}

func (c *collection) vector(r int) []float32 { return c.flat[r*c.dim : (r+1)*c.dim] }
