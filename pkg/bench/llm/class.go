package llm

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"aifbench/pkg/bench/llm/sse"
	"aifbench/pkg/bench/load"
)

// Classes of failures, as they stand in Point.Errors; http_<status> comes
// beside them.
const (
	classRefused    = "connect_refused"     // nothing listens
	classConnect    = "connect_failed"      // any other failure to connect
	classConnTime   = "connect_timeout"     // no connection in time
	classReset      = "connection_reset"    // reset before the answer began
	classClosed     = "connection_closed"   // closed before the answer began
	classFirst      = "first_token_timeout" // no token in time
	classIdle       = "idle_timeout"        // the stream went silent
	classTruncated  = "truncated"           // the stream ended before its answer did
	classStream     = "stream_error"        // an error inside a 200
	classBad        = "bad_stream"          // not the events of a completion
	classNotStream  = "not_a_stream"        // 200 with another content type
	classEmpty      = "empty_answer"        // finished without a token
	classUnfinished = "unfinished"          // cut at the drain limit
	classPorts      = "no_local_port"       // the client is out of ports
	classFiles      = "too_many_open_files" // the client is out of descriptors
	classTooLong    = "answer_too_long"     // an event over its limit
	classClient     = "client_error"        // a defect of ours
)

var (
	errFirstToken = errors.New("no token in time")
	errIdle       = errors.New("no bytes in time")
)

func httpClass(status int) string { return "http_" + strconv.Itoa(status) }

// classify names a failure. answered tells whether the answer's header came.
func classify(ctx context.Context, err error, answered bool) string {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errFirstToken):
		return classFirst
	case errors.Is(cause, errIdle):
		return classIdle
	case errors.Is(cause, load.ErrDrainLimit), cause != nil && errors.Is(err, context.Canceled):
		return classUnfinished
	}
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return classTooLong
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return classPorts
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return classFiles
	case errors.Is(err, syscall.ECONNREFUSED):
		return classRefused
	case dialing && (errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()):
		return classConnTime
	case dialing, errors.As(err, &dns):
		return classConnect
	case answered:
		// Whatever ended it, the answer began and did not end.
		return classTruncated
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return classReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return classClosed
	}
	return classConnect
}
