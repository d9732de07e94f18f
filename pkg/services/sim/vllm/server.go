package vllm

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds a request's body.
const maxBody = 32 << 20

// Server is one simulated vLLM. It is an http.Handler.
type Server struct {
	cfg     Config
	key     [32]byte
	mux     *http.ServeMux
	slots   chan struct{}
	metrics *metrics
	seq     atomic.Int64 // completions asked for
	written atomic.Int64 // tokens
	dead    chan struct{}
	die     sync.Once
}

// New makes a server; the error is about the configuration or the key file.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, key: keySum(cfg.Key), mux: http.NewServeMux(),
		slots: make(chan struct{}, cfg.Slots), metrics: newMetrics(cfg.Model), dead: make(chan struct{}),
	}
	for _, r := range []struct {
		method, path string
		serve        http.HandlerFunc
	}{
		{http.MethodGet, "/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }},
		{http.MethodGet, "/ping", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }},
		{http.MethodGet, "/version", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]string{"version": Version}) }},
		{http.MethodGet, "/v1/models", s.models},
		{http.MethodGet, "/metrics", s.serveMetrics},
		{http.MethodPost, "/tokenize", s.tokenize},
		{http.MethodPost, "/v1/completions", s.completions},
		{http.MethodPost, "/v1/chat/completions", s.chat},
	} {
		s.mux.HandleFunc(r.path, func(w http.ResponseWriter, req *http.Request) {
			if req.Method != r.method && !(r.method == http.MethodGet && req.Method == http.MethodHead) {
				answer(w, http.StatusMethodNotAllowed, map[string]string{"detail": "Method Not Allowed"})
				return
			}
			r.serve(w, req)
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
	})
	return s, nil
}

// ServeHTTP checks the key on every path and serves the request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.dead:
		panic(http.ErrAbortHandler)
	default:
	}
	w.Header().Set("Server", Name)
	if s.cfg.Key != "" {
		// Sums of equal length: the time says nothing about the key.
		got := keySumOf(r.Header.Get("Authorization"))
		if subtle.ConstantTimeCompare(got[:], s.key[:]) != 1 {
			answer(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// Serve answers on ln until ctx ends, then lets requests in flight finish for
// a second. It returns nil when it ended because of ctx, and an error when the
// listener failed or a fault ended the server.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve simulator: %w", err)
	case <-s.dead:
		_ = srv.Close()
		<-failed
		return errors.New("serve simulator: died by the fault it was told to have")
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
		<-failed
		return nil
	}
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{
		"id": s.cfg.Model, "object": "model", "created": time.Now().Unix(), "owned_by": Name,
		"root": s.cfg.Model, "parent": nil, "max_model_len": s.cfg.MaxModelLen,
	}}})
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string    `json:"model"`
		Prompt   string    `json:"prompt"`
		Messages []message `json:"messages"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequestError", fmt.Sprintf("1 validation error: %v", err))
		return
	}
	ids := s.encode(in.Prompt)
	for _, m := range in.Messages {
		ids = append(ids, s.encode(m.text())...)
	}
	answer(w, http.StatusOK, map[string]any{"count": len(ids), "max_model_len": s.cfg.MaxModelLen, "tokens": ids})
}

func keySumOf(header string) [32]byte {
	// keySum adds the scheme; a header of another scheme can never match.
	const scheme = "Bearer "
	if len(header) < len(scheme) || header[:len(scheme)] != scheme {
		return keySum("\x00" + header)
	}
	return keySum(header[len(scheme):])
}

// answer writes a JSON document.
func answer(w http.ResponseWriter, status int, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that is gone is its own affair.
	_, _ = w.Write(b)
}

// problem is the error document of vLLM.
func problem(status int, kind, msg string) map[string]any {
	return map[string]any{"error": map[string]any{"message": msg, "type": kind, "param": nil, "code": status}}
}

func refuse(w http.ResponseWriter, status int, kind, msg string) {
	answer(w, status, problem(status, kind, msg))
}
