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
	"unicode"
)

// Class says in one word how a call failed, for counting.
type Class string

// The classes of failed calls. ClassOK is the class of a nil error.
const (
	ClassOK         Class = "ok"
	ClassRefused    Class = "refused_429"       // the server's rate limit
	ClassTooLarge   Class = "too_large_413"     // the server's limit on a body
	ClassClient     Class = "status_4xx"        // the server blames the request
	ClassServer     Class = "status_5xx"        // the server blames itself
	ClassStatus     Class = "status_unexpected" // neither the status asked for nor an error
	ClassTimeout    Class = "timeout"           // the call outlived its limit
	ClassConnection Class = "connection"        // refused, reset, or cut short
	ClassMalformed  Class = "malformed"         // an answer that is not Chroma's
	ClassCanceled   Class = "canceled"          // ended by ourselves
	ClassInternal   Class = "internal"          // none of the above
)

// Error is a failed call: what was asked, how it failed, and the server's
// words, cut to a line and freed from control characters.
type Error struct {
	Op      string
	Class   Class
	Status  int    // 0 when no answer came
	Code    string // the field error of Chroma's error body
	Message string
	cause   error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	b.WriteString(string(e.Class))
	if e.Status != 0 {
		b.WriteString(" (status ")
		b.WriteString(strconv.Itoa(e.Status))
		b.WriteString(")")
	}
	if e.Message != "" {
		b.WriteString(": ")
		b.WriteString(e.Message)
	}
	return b.String()
}

// Unwrap returns the cause, when there was one below HTTP.
func (e *Error) Unwrap() error { return e.cause }

// ClassOf returns the class of any error this package returns.
func ClassOf(err error) Class {
	if err == nil {
		return ClassOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ClassInternal
}

var errAnswerTooLong = fmt.Errorf("answer is longer than %d bytes", maxAnswerBytes)

func transportError(ctx context.Context, op string, err error) *Error {
	e := &Error{Op: op, Class: ClassConnection, cause: err, Message: clean(rootText(err))}
	var ne net.Error
	switch {
	case errors.Is(err, errAnswerTooLong):
		e.Class = ClassMalformed
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		e.Class = ClassTimeout
		e.Message = "no whole answer within the time limit"
	case errors.Is(err, context.Canceled) || ctx.Err() != nil:
		e.Class = ClassCanceled
	case errors.As(err, &ne) && ne.Timeout():
		e.Class = ClassTimeout
	case strings.Contains(err.Error(), "malformed HTTP"):
		e.Class = ClassMalformed
	}
	return e
}

// rootText drops the url.Error around a cause: it repeats the address in
// every message, and the address is in the result once.
func rootText(err error) string {
	for {
		u := errors.Unwrap(err)
		if u == nil {
			return err.Error()
		}
		var op *net.OpError
		if errors.As(err, &op) && err == error(op) {
			return err.Error()
		}
		err = u
	}
}

func statusError(op string, status int, contentType string, body []byte) *Error {
	e := &Error{Op: op, Status: status}
	switch {
	case status == http.StatusTooManyRequests:
		e.Class = ClassRefused
	case status == http.StatusRequestEntityTooLarge:
		e.Class = ClassTooLarge
	case status >= 500:
		e.Class = ClassServer
	case status >= 400:
		e.Class = ClassClient
	default:
		e.Class = ClassStatus
	}
	var doc struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &doc) == nil && (doc.Error != "" || doc.Message != "") {
		e.Code, e.Message = clean(doc.Error), clean(doc.Message)
		return e
	}
	e.Message = clean(string(body))
	if strings.Contains(contentType, "html") {
		e.Message = "answered with a web page; is this address a Chroma server? " + e.Message
	}
	return e
}

func malformed(op string, body []byte, err error) *Error {
	return &Error{
		Op: op, Class: ClassMalformed, Status: http.StatusOK, cause: err,
		Message: fmt.Sprintf("not Chroma's answer (%s): %s", clean(err.Error()), clean(string(body))),
	}
}

// clean cuts a server's text to one short line without control characters.
func clean(s string) string {
	const limit = 240
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	s = strings.TrimSpace(s)
	if cut {
		s += "..."
	}
	return s
}
