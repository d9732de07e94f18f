package record

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

// Reader iterates over the rows of a file, also of one that is still being
// written or was cut. Memory is bounded by one block.
type Reader struct {
	src    *bufio.Reader
	closer io.Closer
	head   Header
	offset int64
	rows   uint64 // left in the block
	total  uint64
	words  []string
	body   []byte
	buf    bytes.Buffer
	row    Row
	warn   string
	ended  bool
	done   bool
}

// Open opens a record file.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open record file: %w", err)
	}
	r, err := NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	r.closer = f
	return r, nil
}

// NewReader reads the header. The error is ErrNotRecord when the magic is
// missing; a header that is cut or damaged is an error too, since nothing can
// be read without it.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: bufio.NewReaderSize(src, 64<<10)}
	var m [len(magic)]byte
	if _, err := io.ReadFull(r.src, m[:]); err != nil || string(m[:]) != magic {
		return nil, ErrNotRecord
	}
	r.offset = int64(len(magic))
	kind, payload, err := r.frame()
	if err != nil {
		return nil, fmt.Errorf("record header: %w", err)
	}
	if kind != frameHeader {
		return nil, fmt.Errorf("record header: first frame is of type %q", kind)
	}
	if r.head, err = decodeHeader(payload); err != nil {
		return nil, err
	}
	r.row = make(Row, len(r.head.Columns))
	return r, nil
}

// Header returns what the writer declared.
func (r *Reader) Header() Header { return r.head }

// Next returns the next row, which is valid until the call after, or io.EOF at
// the end of what can be trusted. Damage is not an error: it ends the rows, and
// Warning then says where and why.
func (r *Reader) Next() (Row, error) {
	for r.rows == 0 {
		if r.done {
			return nil, io.EOF
		}
		if err := r.block(); err != nil {
			r.done = true
			if !errors.Is(err, io.EOF) {
				r.warn = fmt.Sprintf("records.%s is cut or damaged at byte %d after %d rows: %v; the rows before it are used",
					r.head.Kind, r.offset, r.total, err)
			} else if !r.ended {
				r.warn = fmt.Sprintf("records.%s has no end mark after %d rows: its writer was cut off or still runs", r.head.Kind, r.total)
			}
		}
	}
	if err := r.decodeRow(); err != nil {
		// The checksum held, so this is a writer's defect or a forged file.
		r.rows, r.done = 0, true
		r.warn = fmt.Sprintf("records.%s: row %d: %v; the rows before it are used", r.head.Kind, r.total, err)
		return nil, io.EOF
	}
	r.rows--
	r.total++
	return r.row, nil
}

// Warning says after io.EOF why the file ended before its end mark; empty for
// a whole file.
func (r *Reader) Warning() string { return r.warn }

// Rows is the number of rows returned so far.
func (r *Reader) Rows() int64 { return int64(r.total) }

// Close closes the file of Open.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

func (r *Reader) frame() (byte, []byte, error) {
	var head [frameOverhead]byte
	n, err := io.ReadFull(r.src, head[:])
	if err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("frame cut after %d bytes", n)
	}
	size := binary.LittleEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame claims %d bytes", size)
	}
	r.buf.Reset()
	// CopyN grows with what is really there, so a false length costs nothing.
	if got, err := io.CopyN(&r.buf, r.src, int64(size)); err != nil {
		return 0, nil, fmt.Errorf("frame of %d bytes cut after %d", size, got)
	}
	payload := r.buf.Bytes()
	sum := crc32.Update(crc32.Checksum(head[:5], castagnoli), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, errors.New("checksum does not match")
	}
	r.offset += frameOverhead + int64(size)
	return head[0], payload, nil
}

// block reads frames until one has rows; io.EOF ends the file.
func (r *Reader) block() error {
	kind, payload, err := r.frame()
	if err != nil {
		return err
	}
	switch kind {
	case frameEnd:
		total, n := binary.Uvarint(payload)
		if n <= 0 || total != r.total {
			return fmt.Errorf("end mark counts %d rows, %d were read", total, r.total)
		}
		r.ended = true
		if _, err := r.src.ReadByte(); err == nil {
			return errors.New("data after the end mark")
		}
		return io.EOF
	case frameBlock:
	default:
		return fmt.Errorf("frame of unknown type %q", kind)
	}
	r.body = payload
	count, err := r.uvarint()
	if err != nil {
		return err
	}
	if count > uint64(len(r.body)) {
		return fmt.Errorf("block claims %d strings", count)
	}
	r.words = r.words[:0]
	for range count {
		size, err := r.uvarint()
		if err != nil {
			return err
		}
		if size > uint64(len(r.body)) {
			return errors.New("string is longer than its block")
		}
		r.words = append(r.words, string(r.body[:size]))
		r.body = r.body[size:]
	}
	rows, err := r.uvarint()
	if err != nil {
		return err
	}
	// A row takes at least its null bits.
	if rows > uint64(len(r.body)) {
		return fmt.Errorf("block claims %d rows", rows)
	}
	r.rows = rows
	return nil
}

func (r *Reader) decodeRow() error {
	bits := (len(r.row) + 7) / 8
	if len(r.body) < bits {
		return errors.New("row is cut")
	}
	nulls := r.body[:bits]
	r.body = r.body[bits:]
	for i, c := range r.head.Columns {
		cell := &r.row[i]
		list := cell.Ints[:0]
		*cell = Value{}
		if nulls[i/8]&(1<<(i%8)) != 0 {
			cell.Null = true
			continue
		}
		var err error
		switch c.Kind {
		case KindInt:
			cell.Int, err = r.varint()
		case KindFloat:
			if len(r.body) < 8 {
				return errors.New("float is cut")
			}
			cell.Float = math.Float64frombits(binary.LittleEndian.Uint64(r.body))
			r.body = r.body[8:]
		case KindString:
			var id uint64
			if id, err = r.uvarint(); err == nil && id >= uint64(len(r.words)) {
				err = fmt.Errorf("column %s: string %d of %d", c.Name, id, len(r.words))
			}
			if err == nil {
				cell.Str = r.words[id]
			}
		case KindInts:
			var n uint64
			if n, err = r.uvarint(); err == nil && n > uint64(len(r.body)) {
				err = fmt.Errorf("column %s: list of %d", c.Name, n)
			}
			for k := uint64(0); err == nil && k < n; k++ {
				var v int64
				v, err = r.varint()
				list = append(list, v)
			}
			cell.Ints = list
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) uvarint() (uint64, error) {
	v, n := binary.Uvarint(r.body)
	if n <= 0 {
		return 0, errors.New("number is cut")
	}
	r.body = r.body[n:]
	return v, nil
}

func (r *Reader) varint() (int64, error) {
	v, n := binary.Varint(r.body)
	if n <= 0 {
		return 0, errors.New("number is cut")
	}
	r.body = r.body[n:]
	return v, nil
}
