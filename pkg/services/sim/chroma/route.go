package chroma

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

func unescape(s string) (string, error) { return url.PathUnescape(s) }

// handler answers one call whose body was read; doc is marshalled with status.
type handler func(body []byte) (status int, doc any, err *apiError)

// route finds the handler of a path below /api/v2.
func (s *Server) route(w http.ResponseWriter, req *http.Request, p []string) {
	methods := map[string]handler{}
	name := ""
	switch {
	case len(p) == 1:
		name = p[0]
		s.root(p[0], methods)
	case len(p) == 2 && p[0] == "auth" && p[1] == "identity":
		name = "identity"
		methods[http.MethodGet] = func([]byte) (int, any, *apiError) {
			return http.StatusOK, map[string]any{"user_id": "", "tenant": defaultTenant, "databases": []string{defaultDatabase}}, nil
		}
	case len(p) >= 2 && p[0] == "tenants":
		name = s.tenants(p[1:], req.URL.Query(), methods)
	}
	if len(methods) == 0 {
		s.bare(w, http.StatusNotFound)
		return
	}
	do, ok := methods[req.Method]
	if !ok {
		var allow []string
		for m := range methods {
			allow = append(allow, m)
		}
		sort.Strings(allow)
		w.Header().Set("Allow", strings.Join(allow, ","))
		s.bare(w, http.StatusMethodNotAllowed)
		return
	}
	body, refused := s.body(w, req)
	if refused {
		return
	}
	s.counts.add(name)
	status, doc, err := do(body)
	if err != nil {
		s.refuse(w, err)
		return
	}
	if raw, ok := doc.(rawJSON); ok {
		s.answerBytes(w, status, raw)
		return
	}
	s.answer(w, status, doc)
}

// rawJSON is an answer that is JSON already.
type rawJSON []byte

func (s *Server) body(w http.ResponseWriter, req *http.Request) ([]byte, bool) {
	if req.Method == http.MethodGet || req.Method == http.MethodDelete {
		return nil, false
	}
	if ct := req.Header.Get("Content-Type"); ct != "" {
		if kind, _, err := mime.ParseMediaType(ct); err != nil || kind != "application/json" {
			s.refuse(w, &apiError{http.StatusUnsupportedMediaType, "ChromaError", "Expected request with `Content-Type: application/json`"})
			return nil, true
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, s.cfg.MaxPayloadBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		w.Header().Set("chroma-trace-id", noTrace)
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "Payload too large") // the client may be gone
		return nil, true
	case err != nil:
		s.bare(w, http.StatusBadRequest)
		return nil, true
	}
	return body, false
}

func (s *Server) root(name string, m map[string]handler) {
	get := func(doc any) {
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return http.StatusOK, doc, nil }
	}
	switch name {
	case "heartbeat":
		get(map[string]any{"nanosecond heartbeat": time.Now().UnixNano(), HeartbeatField: true})
	case "healthcheck":
		get(map[string]bool{"is_executor_ready": true, "is_log_client_ready": true})
	case "version":
		get("1.0.0")
	case "pre-flight-checks":
		get(map[string]any{"max_batch_size": maxBatchSize, "supports_base64_encoding": true})
	case "reset":
		m[http.MethodPost] = func([]byte) (int, any, *apiError) {
			return 0, nil, &apiError{http.StatusForbidden, "ChromaError", "Reset is disabled by config"}
		}
	case "tenants":
		m[http.MethodPost] = s.createTenant
	}
}

// tenants routes below /tenants; p[0] is the tenant.
func (s *Server) tenants(p []string, q url.Values, m map[string]handler) string {
	switch {
	case len(p) == 1:
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.getTenant(p[0]) }
		return "tenant"
	case p[1] != "databases":
		return ""
	case len(p) == 2:
		m[http.MethodPost] = func(b []byte) (int, any, *apiError) { return s.createDatabase(p[0], b) }
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.listDatabases(p[0]) }
		return "databases"
	case len(p) == 3:
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.getDatabase(p[0], p[2]) }
		m[http.MethodDelete] = func([]byte) (int, any, *apiError) { return s.dropDatabase(p[0], p[2]) }
		return "database"
	case len(p) == 4 && p[3] == "collections_count":
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.countCollections(p[0], p[2]) }
		return "count_collections"
	case p[3] != "collections":
		return ""
	case len(p) == 4:
		m[http.MethodPost] = func(b []byte) (int, any, *apiError) { return s.createCollection(p[0], p[2], b) }
		m[http.MethodGet] = func([]byte) (int, any, *apiError) {
			limit, offset := number(q.Get("limit"), -1), number(q.Get("offset"), 0)
			return s.listCollections(p[0], p[2], limit, offset)
		}
		return "collections"
	case len(p) == 5:
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.getCollection(p[0], p[2], p[4]) }
		m[http.MethodDelete] = func([]byte) (int, any, *apiError) { return s.dropCollection(p[0], p[2], p[4]) }
		return "collection"
	case len(p) == 6 && p[4] == "by-id":
		m[http.MethodGet] = func([]byte) (int, any, *apiError) { return s.getByID(p[5]) }
		return "collection_by_id"
	case len(p) == 6:
		return s.records(p[4], p[5], m)
	}
	return ""
}

func (s *Server) records(id, verb string, m map[string]handler) string {
	with := func(method string, do func(*collection, []byte) (int, any, *apiError)) {
		m[method] = func(b []byte) (int, any, *apiError) {
			c, err := s.find(id)
			if err != nil {
				return 0, nil, err
			}
			return do(c, b)
		}
	}
	switch verb {
	case "count":
		with(http.MethodGet, func(c *collection, _ []byte) (int, any, *apiError) {
			return http.StatusOK, c.count(), nil
		})
	case "add":
		with(http.MethodPost, s.add)
	case "query":
		with(http.MethodPost, s.query)
	case "get":
		with(http.MethodPost, s.get)
	case "delete":
		with(http.MethodPost, s.deleteRecords)
	case "upsert", "update", "search", "fork":
		with(http.MethodPost, func(*collection, []byte) (int, any, *apiError) {
			return 0, nil, unimplemented("aifbench-sim does not implement %s", verb)
		})
	default:
		return ""
	}
	return "collection_" + verb
}

func number(s string, missing int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return missing
	}
	return n
}

// metrics writes what was asked for, by route, in Prometheus' text format.
func (s *Server) metrics(w http.ResponseWriter) {
	var b strings.Builder
	b.WriteString("# HELP aifbench_sim_chroma_requests_total Calls answered by the built-in store, by route.\n")
	b.WriteString("# TYPE aifbench_sim_chroma_requests_total counter\n")
	var lines []string
	s.counts.by.Range(func(k, v any) bool {
		name, okName := k.(string)
		n, okN := v.(*atomic.Int64)
		if okName && okN {
			lines = append(lines, "aifbench_sim_chroma_requests_total{route=\""+name+"\"} "+strconv.FormatInt(n.Load(), 10)+"\n")
		}
		return true
	})
	sort.Strings(lines)
	b.WriteString(strings.Join(lines, ""))
	s.mu.RLock()
	collections, records := len(s.byID), 0
	for _, c := range s.byID {
		records += c.count()
	}
	s.mu.RUnlock()
	b.WriteString("# HELP aifbench_sim_chroma_collections Collections held.\n# TYPE aifbench_sim_chroma_collections gauge\n")
	b.WriteString("aifbench_sim_chroma_collections " + strconv.Itoa(collections) + "\n")
	b.WriteString("# HELP aifbench_sim_chroma_records Records held.\n# TYPE aifbench_sim_chroma_records gauge\n")
	b.WriteString("aifbench_sim_chroma_records " + strconv.Itoa(records) + "\n")
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, b.String()) // a scraper that went away asks again
}
