package chroma

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// HNSW is the configuration of a collection's index. A zero number means that
// the server's default is wanted.
type HNSW struct {
	Space          string `json:"space,omitempty"`
	MaxNeighbors   int    `json:"max_neighbors,omitempty"`
	EfConstruction int    `json:"ef_construction,omitempty"`
	EfSearch       int    `json:"ef_search,omitempty"`
	SyncThreshold  int    `json:"sync_threshold,omitempty"`
}

// Collection is a collection as the server describes it.
type Collection struct {
	ID        string
	Name      string
	HNSW      HNSW // as echoed: nothing is zero that the server knows
	Dimension int  // 0 before the first record
}

func (c *Client) parseCollection(op string, body []byte) (Collection, error) {
	var doc struct {
		ID            string `json:"id"`
		Name          string `json:"name"`
		Dimension     *int   `json:"dimension"`
		Configuration *struct {
			HNSW *HNSW `json:"hnsw"`
		} `json:"configuration_json"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return Collection{}, malformed(op, body, err)
	}
	if doc.ID == "" || doc.Name == "" || doc.Configuration == nil {
		return Collection{}, malformed(op, body, errors.New("no id, name or configuration_json"))
	}
	if doc.Configuration.HNSW == nil {
		return Collection{}, malformed(op, body, errors.New("the collection has no hnsw configuration"))
	}
	out := Collection{ID: doc.ID, Name: doc.Name, HNSW: *doc.Configuration.HNSW}
	if doc.Dimension != nil {
		out.Dimension = *doc.Dimension
	}
	return out, nil
}

// Create makes a new collection. A name that exists is an error of status
// 409: get_or_create is never sent, since it would return a stranger's data.
func (c *Client) Create(ctx context.Context, name string, h HNSW) (Collection, Stamp, error) {
	type configuration struct {
		HNSW HNSW `json:"hnsw"`
	}
	body, err := json.Marshal(struct {
		Name          string        `json:"name"`
		Configuration configuration `json:"configuration"`
	}{name, configuration{h}})
	if err != nil {
		return Collection{}, Stamp{}, err
	}
	var buf Buffer
	got, _, st, err := c.call(ctx, "create collection", http.MethodPost, c.collections, body, http.StatusOK, &buf)
	if err != nil {
		return Collection{}, st, err
	}
	col, err := c.parseCollection("create collection", got)
	return col, st, err
}

// Collection looks a collection up by name.
func (c *Client) Collection(ctx context.Context, name string) (Collection, error) {
	var buf Buffer
	got, _, _, err := c.call(ctx, "get collection", http.MethodGet, c.collections+"/"+url.PathEscape(name), nil, http.StatusOK, &buf)
	if err != nil {
		return Collection{}, err
	}
	return c.parseCollection("get collection", got)
}

// Drop deletes a collection by name; one that does not exist is an error of
// status 404.
func (c *Client) Drop(ctx context.Context, name string) (Stamp, error) {
	var buf Buffer
	_, _, st, err := c.call(ctx, "delete collection", http.MethodDelete, c.collections+"/"+url.PathEscape(name), nil, http.StatusOK, &buf)
	return st, err
}

// Count returns the number of records of a collection.
func (c *Client) Count(ctx context.Context, id string) (int64, error) {
	var buf Buffer
	got, _, _, err := c.call(ctx, "count", http.MethodGet, c.collections+"/"+url.PathEscape(id)+"/count", nil, http.StatusOK, &buf)
	if err != nil {
		return 0, err
	}
	n, err := parseCount(got)
	if err != nil {
		return 0, malformed("count", got, err)
	}
	return n, nil
}

func parseCount(body []byte) (int64, error) {
	n, err := strconv.ParseInt(string(body), 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a bare integer")
	}
	return n, nil
}

// AddURL and QueryURL return the addresses of the two calls of the hot loops,
// so that they are built once.
func (c *Client) AddURL(id string) string {
	return c.collections + "/" + url.PathEscape(id) + "/add"
}

// QueryURL returns the address of a collection's query call.
func (c *Client) QueryURL(id string) string {
	return c.collections + "/" + url.PathEscape(id) + "/query"
}

// Add sends a body made by AppendAdd to an address made by AddURL. A nil
// error means 201, which says nothing of ids that existed: they are ignored.
func (c *Client) Add(ctx context.Context, addURL string, body []byte, buf *Buffer) (Stamp, error) {
	got, _, st, err := c.call(ctx, "add", http.MethodPost, addURL, body, http.StatusCreated, buf)
	if err != nil {
		return st, err
	}
	if !json.Valid(got) {
		return st, malformed("add", got, errors.New("not JSON"))
	}
	return st, nil
}

// Query sends a body made by AppendQuery to an address made by QueryURL and
// parses the answer into a, which stays valid until the next use of buf.
func (c *Client) Query(ctx context.Context, queryURL string, body []byte, buf *Buffer, a *Answer) (Stamp, error) {
	got, _, st, err := c.call(ctx, "query", http.MethodPost, queryURL, body, http.StatusOK, buf)
	if err != nil {
		return st, err
	}
	if err := a.Parse(got); err != nil {
		return st, malformed("query", got, err)
	}
	return st, nil
}

// Vectors reads back the stored vectors of ids, in the order of the server.
func (c *Client) Vectors(ctx context.Context, id string, ids []string) (map[string][]float32, error) {
	body, err := json.Marshal(map[string]any{"ids": ids, "include": []string{"embeddings"}})
	if err != nil {
		return nil, err
	}
	var buf Buffer
	got, _, _, err := c.call(ctx, "get", http.MethodPost, c.collections+"/"+url.PathEscape(id)+"/get", body, http.StatusOK, &buf)
	if err != nil {
		return nil, err
	}
	out, err := parseVectors(got)
	if err != nil {
		return nil, malformed("get", got, err)
	}
	return out, nil
}

func parseVectors(body []byte) (map[string][]float32, error) {
	var doc struct {
		IDs        []string    `json:"ids"`
		Embeddings [][]float32 `json:"embeddings"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	if len(doc.IDs) != len(doc.Embeddings) {
		return nil, errors.New("ids and embeddings have different lengths")
	}
	out := make(map[string][]float32, len(doc.IDs))
	for i, id := range doc.IDs {
		if _, twice := out[id]; twice {
			return nil, errors.New("an id is given twice")
		}
		out[id] = doc.Embeddings[i]
	}
	return out, nil
}
