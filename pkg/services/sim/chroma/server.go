// Package chroma owns the built-in engine "sim" of the service chroma: an
// exact vector store that speaks the part of Chroma's v2 API that a benchmark
// uses, with Chroma's shapes, statuses and error bodies. It names itself in a
// header and in its heartbeat, so that no result against it can pass for
// Chroma's. It must not know how load is made or what is measured.
package chroma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ServerHeader is the value of the header Server of every answer.
const ServerHeader = "aifbench-sim"

// HeartbeatField is the field of the heartbeat that Chroma does not have.
const HeartbeatField = "aifbench_sim"

// The limits that Chroma has by default.
const (
	maxBatchSize      = 5461
	defaultMaxPayload = 40 << 20
	defaultTenant     = "default_tenant"
	defaultDatabase   = "default_database"
)

// Config is what a store can be told. The zero value is ready.
type Config struct {
	// PersistDir gets a snapshot of each collection as it fills, laid out like
	// Chroma's (one directory a collection, files of the same names, in a
	// format of its own); "" keeps everything in memory. Nothing is read back.
	PersistDir string
	// MaxPayloadBytes bounds a request body; 0 is Chroma's 40 MiB.
	MaxPayloadBytes int64
	// Faults are what tests ask to go wrong.
	Faults Faults
}

// Server is the store and its HTTP handler. It is safe for concurrent use.
type Server struct {
	cfg    Config
	mu     sync.RWMutex
	dbs    map[string]*database // by tenant + "/" + name
	byID   map[string]*collection
	tenant map[string]bool
	counts counters
	faults faultState
}

type database struct {
	id, name, tenant string
	collections      map[string]*collection
}

// New returns an empty store with Chroma's default tenant and database.
func New(cfg Config) *Server {
	if cfg.MaxPayloadBytes == 0 {
		cfg.MaxPayloadBytes = defaultMaxPayload
	}
	s := &Server{
		cfg:    cfg,
		dbs:    map[string]*database{},
		byID:   map[string]*collection{},
		tenant: map[string]bool{defaultTenant: true},
	}
	s.dbs[defaultTenant+"/"+defaultDatabase] = &database{
		id: newUUID(), name: defaultDatabase, tenant: defaultTenant, collections: map[string]*collection{},
	}
	return s
}

// Serve answers on ln until ctx ends, then waits a second for calls in flight
// and cuts the rest. A store that served without trouble returns nil.
func Serve(ctx context.Context, ln net.Listener, cfg Config) error {
	srv := &http.Server{Handler: New(cfg), ReadHeaderTimeout: 30 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve sim chroma: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		if err := srv.Close(); err != nil {
			return fmt.Errorf("close sim chroma: %w", err)
		}
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve sim chroma: %w", err)
	}
	return nil
}

// apiError is an answer that is not a success. The word of Chroma's field
// error depends on the kind, not on the status alone.
type apiError struct {
	status  int
	kind    string
	message string
}

func invalid(format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidArgumentError", fmt.Sprintf(format, args...)}
}

func unprocessable(format string, args ...any) *apiError {
	return &apiError{http.StatusUnprocessableEntity, "ChromaError", "Failed to deserialize the JSON body into the target type: " + fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *apiError {
	return &apiError{http.StatusNotFound, "NotFoundError", fmt.Sprintf(format, args...)}
}

func unimplemented(format string, args ...any) *apiError {
	return &apiError{http.StatusNotImplemented, "ChromaError", fmt.Sprintf(format, args...)}
}

const noTrace = "00000000000000000000000000000000"

func (s *Server) refuse(w http.ResponseWriter, e *apiError) {
	w.Header().Set("chroma-trace-id", noTrace)
	s.answer(w, e.status, map[string]string{"error": e.kind, "message": e.message})
}

// bare answers with a status and nothing else, as for unknown routes.
func (s *Server) bare(w http.ResponseWriter, status int) {
	w.Header().Set("chroma-trace-id", noTrace)
	w.WriteHeader(status)
}

func (s *Server) answer(w http.ResponseWriter, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.answerBytes(w, status, body)
}

func (s *Server) answerBytes(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is its own affair
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Server", ServerHeader)
	if s.fault(w, req) {
		return
	}
	if req.URL.Path == "/metrics" {
		if req.Method != http.MethodGet {
			s.bare(w, http.StatusMethodNotAllowed)
			return
		}
		s.metrics(w)
		return
	}
	path := strings.TrimPrefix(req.URL.EscapedPath(), "/")
	parts := strings.Split(path, "/")
	if len(parts) >= 2 && parts[0] == "api" && parts[1] == "v1" {
		s.counts.add("v1")
		s.refuse(w, &apiError{http.StatusGone, "Unimplemented", "The v1 API is deprecated. Please use /v2 apis"})
		return
	}
	if len(parts) < 3 || parts[0] != "api" || parts[1] != "v2" {
		s.bare(w, http.StatusNotFound)
		return
	}
	for i := range parts {
		p, err := unescape(parts[i])
		if err != nil {
			s.bare(w, http.StatusBadRequest)
			return
		}
		parts[i] = p
	}
	s.route(w, req, parts[2:])
}

// counters count answered calls by route.
type counters struct {
	by sync.Map // string -> *atomic.Int64
}

func (c *counters) add(name string) {
	v, ok := c.by.Load(name)
	if !ok {
		v, _ = c.by.LoadOrStore(name, new(atomic.Int64))
	}
	if n, ok := v.(*atomic.Int64); ok {
		n.Add(1)
	}
}
