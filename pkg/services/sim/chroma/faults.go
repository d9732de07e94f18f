package chroma

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Faults are what tests ask to go wrong. Every n-th means the calls whose
// number, counted from 1 over the calls that the fault concerns, divides by n;
// 0 is never.
type Faults struct {
	// RefuseEvery answers every n-th add and query with 429.
	RefuseEvery int64
	// FailEvery answers every n-th add and query with 500.
	FailEvery int64
	// HTMLEvery answers every n-th add and query with a web page of status 200.
	HTMLEvery int64
	// CutEvery ends the connection in the middle of the answer of every n-th
	// add and query.
	CutEvery int64
	// DieAfter ends every connection without an answer after so many adds and
	// queries, for ever.
	DieAfter int64
	// Delay is waited before each add and query is answered; DelayEvery limits
	// it to every n-th (0: all).
	Delay      time.Duration
	DelayEvery int64
	// DropEvery forgets every n-th record of the adds and acknowledges it.
	DropEvery int64
	// ForeignIDEvery gives every n-th returned id a name that was never stored.
	ForeignIDEvery int64
	// DistanceOffset is added to every returned distance.
	DistanceOffset float64
	// Only restricts the faults of whole calls to paths with this ending, such
	// as /query; empty is both.
	Only string
}

// faultState counts what faults concern.
type faultState struct {
	calls, records, ids atomic.Int64
}

func every(n, count int64) bool { return n > 0 && count%n == 0 }

// fault plays a fault of a whole call and tells whether it has answered.
func (s *Server) fault(w http.ResponseWriter, req *http.Request) bool {
	f := s.cfg.Faults
	path := req.URL.Path
	if f.DieAfter > 0 && s.faults.calls.Load() >= f.DieAfter {
		hangUp(w)
	}
	if !strings.HasSuffix(path, "/add") && !strings.HasSuffix(path, "/query") {
		return false
	}
	if f.Only != "" && !strings.HasSuffix(path, f.Only) {
		return false
	}
	n := s.faults.calls.Add(1)
	if f.Delay > 0 && (f.DelayEvery == 0 || every(f.DelayEvery, n)) {
		// The server notices that a client left only once the body is read.
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return true
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-req.Context().Done():
			return true
		}
	}
	switch {
	case every(f.RefuseEvery, n):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "You have been rate limited.") // the client may be gone
		return true
	case every(f.FailEvery, n):
		s.refuse(w, &apiError{http.StatusInternalServerError, "InternalError", "planted failure"})
		return true
	case every(f.HTMLEvery, n):
		w.Header().Set("Content-Type", "text/html")
		status := http.StatusOK
		if strings.HasSuffix(path, "/add") {
			status = http.StatusCreated
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html><body>Sign in to continue</body></html>") // the client may be gone
		return true
	case every(f.CutEvery, n):
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"ids":[["`) // cut on purpose
		hangUp(w)
	}
	return false
}

// hangUp ends the connection; net/http keeps quiet about this panic.
func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func (f *faultState) drops(cfg Faults) bool {
	return cfg.DropEvery > 0 && every(cfg.DropEvery, f.records.Add(1))
}

func (f *faultState) id(cfg Faults, id string) string {
	if cfg.ForeignIDEvery > 0 && every(cfg.ForeignIDEvery, f.ids.Add(1)) {
		return "stranger-" + id
	}
	return id
}

func (f *faultState) distance(cfg Faults, d float64) float64 { return d + cfg.DistanceOffset }
