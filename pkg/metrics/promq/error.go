package promq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Kind classifies what went wrong with a query.
type Kind string

// The kinds of error, the first five by the server's own errorType.
const (
	BadData       Kind = "bad_data"       // the query or a parameter is wrong
	Execution     Kind = "execution"      // the query cannot be evaluated
	Timeout       Kind = "timeout"        // the server gave up
	Canceled      Kind = "canceled"       // the server stopped the query
	Internal      Kind = "internal"       // the server failed
	Unavailable   Kind = "unavailable"    // the server is not ready, or the API is off
	Denied        Kind = "denied"         // the key was refused
	NotPrometheus Kind = "not_prometheus" // something else answers there
	Malformed     Kind = "malformed"      // the answer cannot be read
	TooLarge      Kind = "too_large"      // the answer is over the cap
	Unreachable   Kind = "unreachable"    // nothing answers
)

// ErrNoSeries is the outcome of a query that matched nothing. It is not an
// error of the server, and it is not zero.
var ErrNoSeries = errors.New("no series")

// Error is a query that was not answered.
type Error struct {
	Kind  Kind
	Query string
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Message is the server's own text or ours; foreign, to be escaped.
	Message  string
	Warnings []string
	// Err is the cause below, if any.
	Err error
}

func (e *Error) Error() string {
	s := "query prometheus: " + string(e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable tells whether the same query can succeed later.
func (e *Error) Retryable() bool {
	switch e.Kind {
	case Timeout, Canceled, Internal, Unavailable, Unreachable:
		return true
	}
	return false
}

// kindOf reads the server's errorType, falling back to the status for types
// of newer servers.
func kindOf(errorType string, status int) Kind {
	switch k := Kind(errorType); k {
	case BadData, Execution, Timeout, Canceled, Internal, Unavailable:
		return k
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Denied
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return NotPrometheus
	case status == http.StatusUnprocessableEntity:
		return Execution
	case status >= 400 && status < 500:
		return BadData
	case status == http.StatusServiceUnavailable:
		return Unavailable
	}
	return Internal
}

// excerpt is the beginning of an answer, on one line.
func excerpt(body []byte) string {
	const limit = 160
	s := strings.Join(strings.Fields(string(bytes.ToValidUTF8(body[:min(len(body), 4*limit)], []byte("?")))), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	if s == "" {
		return "(empty answer)"
	}
	return s
}

func looksLikeHTML(body []byte) bool {
	head := bytes.ToLower(bytes.TrimSpace(body[:min(len(body), 512)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// stripURL drops the address from a transport error: it may hold a token.
func stripURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

func transportMessage(ctx context.Context, err error) string {
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	return stripURL(err).Error()
}
