package chroma

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// newUUID returns a random version 4 uuid.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

var (
	uuidText = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	nameText = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]+[a-zA-Z0-9]$`)
)

// maxName is not in the pattern: counted repeats take every start of the
// program a millisecond to compile.
const maxName = 512

func (s *Server) createTenant(body []byte) (int, any, *apiError) {
	var in struct {
		Name *string `json:"name"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if in.Name == nil {
		return 0, nil, unprocessable("missing field `name`")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tenant[*in.Name] {
		return 0, nil, &apiError{http.StatusConflict, "ChromaError", "Tenant [" + *in.Name + "] already exists"}
	}
	s.tenant[*in.Name] = true
	return http.StatusOK, map[string]any{}, nil
}

func (s *Server) getTenant(name string) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.tenant[name] {
		return 0, nil, notFound("Tenant [%s] not found", name)
	}
	return http.StatusOK, map[string]any{"name": name, "resource_name": nil}, nil
}

func (s *Server) createDatabase(tenant string, body []byte) (int, any, *apiError) {
	var in struct {
		Name *string `json:"name"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if in.Name == nil {
		return 0, nil, unprocessable("missing field `name`")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tenant + "/" + *in.Name
	if s.dbs[key] != nil {
		return 0, nil, &apiError{http.StatusConflict, "ChromaError", "Database [" + *in.Name + "] already exists"}
	}
	s.dbs[key] = &database{id: newUUID(), name: *in.Name, tenant: tenant, collections: map[string]*collection{}}
	return http.StatusOK, map[string]any{}, nil
}

func (d *database) doc() map[string]any {
	return map[string]any{"id": d.id, "name": d.name, "tenant": d.tenant}
}

func (s *Server) getDatabase(tenant, name string) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d := s.dbs[tenant+"/"+name]
	if d == nil {
		return 0, nil, notFound("Database [%s] not found. Are you sure it exists?", name)
	}
	return http.StatusOK, d.doc(), nil
}

func (s *Server) listDatabases(tenant string) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := []map[string]any{}
	for _, d := range s.dbs {
		if d.tenant == tenant {
			out = append(out, d.doc())
		}
	}
	return http.StatusOK, out, nil
}

func (s *Server) dropDatabase(tenant, name string) (int, any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dbs[tenant+"/"+name]
	if d == nil {
		return 0, nil, notFound("Database [%s] not found. Are you sure it exists?", name)
	}
	for _, c := range d.collections {
		delete(s.byID, c.id)
	}
	delete(s.dbs, tenant+"/"+name)
	return http.StatusOK, map[string]any{}, nil
}

// hnsw is the configuration of an index. The store searches exactly and only
// keeps it to echo it, as a client compares.
type hnsw struct {
	Space          string  `json:"space"`
	EfConstruction int     `json:"ef_construction"`
	EfSearch       int     `json:"ef_search"`
	MaxNeighbors   int     `json:"max_neighbors"`
	ResizeFactor   float64 `json:"resize_factor"`
	SyncThreshold  int     `json:"sync_threshold"`
	// Accepted and echoed only inside Chroma's schema, which this store leaves out.
	NumThreads *int `json:"num_threads,omitempty"`
	BatchSize  *int `json:"batch_size,omitempty"`
}

func (s *Server) createCollection(tenant, db string, body []byte) (int, any, *apiError) {
	var in struct {
		Name          *string         `json:"name"`
		Metadata      json.RawMessage `json:"metadata"`
		GetOrCreate   bool            `json:"get_or_create"`
		Configuration *struct {
			HNSW  json.RawMessage `json:"hnsw"`
			Spann json.RawMessage `json:"spann"`
		} `json:"configuration"`
	}
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	if in.Name == nil {
		return 0, nil, unprocessable("missing field `name`")
	}
	h := hnsw{Space: "l2", EfConstruction: 100, EfSearch: 100, MaxNeighbors: 16, ResizeFactor: 1.2, SyncThreshold: 1000}
	if in.Configuration != nil {
		given := func(m json.RawMessage) bool { return len(m) > 0 && string(m) != "null" }
		if given(in.Configuration.HNSW) && given(in.Configuration.Spann) {
			return 0, nil, invalid("Multiple vector index configurations provided")
		}
		if given(in.Configuration.HNSW) {
			dec := json.NewDecoder(bytes.NewReader(in.Configuration.HNSW))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&h); err != nil {
				return 0, nil, unprocessable("configuration.hnsw: %v", err)
			}
			if !slices.Contains([]string{"l2", "cosine", "ip"}, h.Space) {
				return 0, nil, unprocessable("configuration.hnsw.space: unknown variant `%s`, expected one of `l2`, `cosine`, `ip`", h.Space)
			}
		}
	}
	if len(*in.Name) > maxName || !nameText.MatchString(*in.Name) {
		return 0, nil, invalid("Validation error: name: Expected a name containing 3-512 characters from [a-zA-Z0-9._-], starting and ending with a character in [a-zA-Z0-9]. Got: %s", *in.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dbs[tenant+"/"+db]
	if d == nil {
		return 0, nil, invalid("Database [%s] does not exist", db)
	}
	if old := d.collections[*in.Name]; old != nil {
		if in.GetOrCreate {
			return http.StatusOK, old.doc(), nil
		}
		return 0, nil, &apiError{http.StatusConflict, "ChromaError", "Collection [" + *in.Name + "] already exists"}
	}
	c := &collection{
		id: newUUID(), name: *in.Name, tenant: tenant, database: db, hnsw: h, metadata: in.Metadata,
		segment: newUUID(), row: map[string]int{}, dir: s.cfg.PersistDir,
	}
	d.collections[c.name] = c
	s.byID[c.id] = c
	return http.StatusOK, c.doc(), nil
}

func (s *Server) countCollections(tenant, db string) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.dbs[tenant+"/"+db]; d != nil {
		return http.StatusOK, len(d.collections), nil
	}
	return http.StatusOK, 0, nil
}

func (s *Server) listCollections(tenant, db string, limit, offset int) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := []map[string]any{}
	d := s.dbs[tenant+"/"+db]
	if d == nil {
		return http.StatusOK, out, nil
	}
	var names []string
	for name := range d.collections {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i < offset || (limit >= 0 && len(out) >= limit) {
			continue
		}
		out = append(out, d.collections[name].doc())
	}
	return http.StatusOK, out, nil
}

func (s *Server) getCollection(tenant, db, name string) (int, any, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.dbs[tenant+"/"+db]; d != nil {
		if c := d.collections[name]; c != nil {
			return http.StatusOK, c.doc(), nil
		}
	}
	return 0, nil, notFound("Collection [%s] does not exist", name)
}

func (s *Server) getByID(id string) (int, any, *apiError) {
	c, err := s.find(id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.doc(), nil
}

func (s *Server) dropCollection(tenant, db, name string) (int, any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.dbs[tenant+"/"+db]; d != nil {
		if c := d.collections[name]; c != nil {
			delete(d.collections, name)
			delete(s.byID, c.id)
			// The directory stays, as Chroma's does.
			return http.StatusOK, map[string]any{}, nil
		}
	}
	return 0, nil, notFound("Collection [%s] does not exist", name)
}

// find returns the collection of a uuid.
func (s *Server) find(id string) (*collection, *apiError) {
	if !uuidText.MatchString(id) {
		return nil, invalid("Collection ID is not a valid UUIDv4")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.byID[strings.ToLower(id)]
	if c == nil {
		return nil, notFound("Collection [%s] does not exist.", id)
	}
	return c, nil
}

// decode reads a body as Chroma does: what is no JSON is a bad request, what
// is JSON of another shape is unprocessable, unknown fields are ignored.
func decode(body []byte, into any) *apiError {
	if !json.Valid(body) {
		return invalid("Failed to parse the request body as JSON")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return unprocessable("%v", err)
	}
	return nil
}
