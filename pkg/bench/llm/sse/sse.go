// Package sse owns the reading of server-sent events for measurement: it
// stamps the moment at which bytes came out of the connection before it looks
// at them. It must not know what an event says.
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// MaxEvent bounds one event's data.
const MaxEvent = 16 << 20

// ErrTooLong is returned for an event over MaxEvent.
var ErrTooLong = errors.New("event is longer than 16 MiB")

// Reader reads events. Its memory is one buffer and one event.
type Reader struct {
	src   stamper
	br    *bufio.Reader
	data  []byte
	at    time.Time
	any   bool // data has a line
	bytes int64
}

// stamper remembers when its last read returned.
type stamper struct {
	src  io.Reader
	last time.Time
	seen func(at time.Time)
}

func (s *stamper) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if n > 0 {
		s.last = time.Now()
		if s.seen != nil {
			s.seen(s.last)
		}
	}
	return n, err
}

// NewReader returns a reader of src. seen, when not nil, is called after every
// read that brought bytes, so that a watchdog can tell silence from work.
func NewReader(src io.Reader, seen func(at time.Time)) *Reader {
	r := &Reader{src: stamper{src: src, seen: seen}}
	r.br = bufio.NewReaderSize(&r.src, 32<<10)
	return r
}

// Next returns the data of the next event, valid until the call after, and
// when the read that completed its last data line returned. Comments, fields
// other than data and events without data are skipped; several data lines are
// joined by a newline. At the end of the stream an event whose blank line is
// missing is still returned; then the error is io.EOF, or what cut the stream.
func (r *Reader) Next() (data []byte, at time.Time, err error) {
	r.data, r.any = r.data[:0], false
	for {
		line, err := r.line()
		if err != nil {
			if r.any && errors.Is(err, io.EOF) {
				return r.data, r.at, nil
			}
			return nil, r.src.last, err
		}
		if len(line) == 0 {
			if r.any {
				return r.data, r.at, nil
			}
			continue
		}
		value, ok := bytes.CutPrefix(line, []byte("data"))
		if !ok || len(value) > 0 && value[0] != ':' {
			continue // a comment or another field
		}
		if len(value) > 0 {
			value = value[1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
		}
		if r.any {
			r.data = append(r.data, '\n')
		}
		if len(r.data)+len(value) > MaxEvent {
			return nil, r.src.last, ErrTooLong
		}
		r.data, r.at, r.any = append(r.data, value...), r.src.last, true
	}
}

// Bytes returns how many bytes of lines were read.
func (r *Reader) Bytes() int64 { return r.bytes }

// line returns one line without its end, LF or CRLF. A last line without end
// is returned as a line.
func (r *Reader) line() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return r.longLine(line)
	}
	r.bytes += int64(len(line))
	return trim(line, err)
}

func (r *Reader) longLine(part []byte) ([]byte, error) {
	// Rare: only a line over the buffer's 32 KiB is gathered piece by piece.
	long := append([]byte(nil), part...)
	for {
		part, err := r.br.ReadSlice('\n')
		if len(long)+len(part) > MaxEvent {
			return nil, ErrTooLong
		}
		long = append(long, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		r.bytes += int64(len(long))
		return trim(long, err)
	}
}

func trim(line []byte, err error) ([]byte, error) {
	if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
		return nil, err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}
