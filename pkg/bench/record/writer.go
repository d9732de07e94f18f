package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer appends rows to one file. It is not safe for use by several
// goroutines: a bench has one, fed by its workers (see Queue).
type Writer struct {
	w     io.Writer
	file  *os.File // nil when the writer was given a stream
	head  Header
	body  []byte // encoded rows of the open block
	dict  map[string]uint64
	words []byte
	rows  uint64 // of the open block
	total uint64
	frame []byte
	err   error
}

// Create makes a new record file, readable by its owner only, and refuses to
// replace one: raw samples are never overwritten.
func Create(path string, h Header) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create record file: %w", err)
	}
	w, err := NewWriter(f, h)
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	w.file = f
	return w, nil
}

// NewWriter writes the header to w and returns a writer of rows. The caller
// closes w after Close.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.SchemaVersion = SchemaVersion
	if err := h.Validate(); err != nil {
		return nil, err
	}
	doc, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode record header: %w", err)
	}
	out := &Writer{w: w, head: h, dict: map[string]uint64{}}
	out.frame = append(out.frame, magic...)
	out.frame = appendFrame(out.frame, frameHeader, doc)
	if _, err := w.Write(out.frame); err != nil {
		return nil, fmt.Errorf("write record header: %w", err)
	}
	return out, nil
}

// Append adds one row to the open block; the block is written when it is full
// or flushed. An error is kept and returned by every later call.
func (w *Writer) Append(row Row) error {
	if w.err != nil {
		return w.err
	}
	if len(row) != len(w.head.Columns) {
		return fmt.Errorf("append record: %d cells, want %d", len(row), len(w.head.Columns))
	}
	w.body = appendNulls(w.body, row)
	for i, v := range row {
		if v.Null {
			continue
		}
		switch w.head.Columns[i].Kind {
		case KindInt:
			w.body = binary.AppendVarint(w.body, v.Int)
		case KindFloat:
			w.body = binary.LittleEndian.AppendUint64(w.body, math.Float64bits(v.Float))
		case KindString:
			w.body = binary.AppendUvarint(w.body, w.word(v.Str))
		case KindInts:
			w.body = binary.AppendUvarint(w.body, uint64(len(v.Ints)))
			for _, x := range v.Ints {
				w.body = binary.AppendVarint(w.body, x)
			}
		}
	}
	w.rows++
	if len(w.body)+len(w.words) >= blockTarget {
		return w.Flush()
	}
	return nil
}

// Flush hands the open block to the operating system, which keeps it when
// this process is killed.
func (w *Writer) Flush() error {
	if w.err != nil || w.rows == 0 {
		return w.err
	}
	payload := binary.AppendUvarint(nil, uint64(len(w.dict)))
	payload = append(payload, w.words...)
	payload = binary.AppendUvarint(payload, w.rows)
	payload = append(payload, w.body...)
	if len(payload) > maxFrame {
		w.err = fmt.Errorf("write records: a block of %d bytes is over the limit of %d", len(payload), maxFrame)
		return w.err
	}
	w.total += w.rows
	w.rows, w.body, w.words = 0, w.body[:0], w.words[:0]
	clear(w.dict)
	return w.put(frameBlock, payload)
}

// Sync flushes and forces the file to its device.
func (w *Writer) Sync() error {
	if err := w.Flush(); err != nil {
		return err
	}
	if w.file == nil {
		return nil
	}
	if err := w.file.Sync(); err != nil {
		w.err = fmt.Errorf("sync records: %w", err)
	}
	return w.err
}

// Close writes what is left and the end mark, which tells a reader that the
// writer was not cut off, and closes the file it created.
func (w *Writer) Close() error {
	err := w.Flush()
	if err == nil {
		err = w.put(frameEnd, binary.AppendUvarint(nil, w.total))
	}
	if w.file != nil {
		if err == nil {
			err = w.Sync()
		}
		err = errors.Join(err, w.file.Close())
		w.file = nil
	}
	if w.err == nil {
		w.err = errors.New("record writer is closed")
	}
	return err
}

func (w *Writer) put(kind byte, payload []byte) error {
	w.frame = appendFrame(w.frame[:0], kind, payload)
	// One write a frame: a kill between two frames leaves a whole file.
	if _, err := w.w.Write(w.frame); err != nil {
		w.err = fmt.Errorf("write records: %w", err)
	}
	return w.err
}

func (w *Writer) word(s string) uint64 {
	if id, ok := w.dict[s]; ok {
		return id
	}
	id := uint64(len(w.dict))
	w.dict[s] = id
	w.words = binary.AppendUvarint(w.words, uint64(len(s)))
	w.words = append(w.words, s...)
	return id
}

func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(dst[start:], castagnoli), castagnoli, payload)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(dst, payload...)
}

func appendNulls(dst []byte, row Row) []byte {
	for i := 0; i < len(row); i += 8 {
		var bits byte
		for k := i; k < min(i+8, len(row)); k++ {
			if row[k].Null {
				bits |= 1 << (k - i)
			}
		}
		dst = append(dst, bits)
	}
	return dst
}
