package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"aifbench/pkg/metrics/figure"
)

// FileName is the name of the document in a run directory.
const FileName = "result.json"

// MaxBytes caps what Read takes from disk.
const MaxBytes = 64 << 20

// ErrNewer is the error of a document that a newer aifbench has written.
var ErrNewer = errors.New("written by a newer aifbench")

// Encode returns the document as indented JSON with a final newline. Equal
// results are equal bytes. A result that Decode would refuse is an error.
func Encode(r *Result) ([]byte, error) {
	r.Normalise()
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return buf.Bytes(), nil
}

// Decode reads a document strictly: unknown fields, unknown figures, a second
// document, a foreign version are errors.
func Decode(data []byte) (*Result, error) {
	var head struct {
		SchemaVersion *int `json:"schema_version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("decode result: %w", where(data, err))
	}
	switch {
	case head.SchemaVersion == nil:
		return nil, errors.New("decode result: no schema_version")
	case *head.SchemaVersion > SchemaVersion:
		return nil, fmt.Errorf("decode result: schema version %d: %w", *head.SchemaVersion, ErrNewer)
	case *head.SchemaVersion < 1:
		return nil, fmt.Errorf("decode result: impossible schema version %d", *head.SchemaVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r Result
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("decode result: %w", where(data, err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode result: more than one document")
	}
	r.Normalise()
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("decode result: %w", err)
	}
	return &r, nil
}

// check refuses what a reader could misunderstand: a verdict without a known
// status, a figure outside the table, a missing value without its reason.
func (r *Result) check() error {
	if _, ok := rank[r.Verdict.Status]; !ok {
		return fmt.Errorf("verdict status %q is unknown", r.Verdict.Status)
	}
	if err := checkSet("figures", r.Figures); err != nil {
		return err
	}
	for i, p := range r.Curve {
		if _, ok := rank[p.Verdict.Status]; !ok {
			return fmt.Errorf("curve[%d]: verdict status %q is unknown", i, p.Verdict.Status)
		}
		if err := checkSet(fmt.Sprintf("curve[%d].figures", i), p.Figures); err != nil {
			return err
		}
	}
	return nil
}

func checkSet(at string, s figure.Set) error {
	for name, f := range s {
		d, ok := figure.Lookup(name)
		switch {
		case !ok:
			return fmt.Errorf("%s: %q is not in the table of figures of this version", at, name)
		case f.Unit != d.Unit:
			return fmt.Errorf("%s: %s has unit %q, the table says %q", at, name, f.Unit, d.Unit)
		case f.Value == nil && f.Reason == "":
			return fmt.Errorf("%s: %s is null without a reason", at, name)
		}
	}
	return nil
}

// where adds the line of a syntax or type error.
func where(data []byte, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return err
	}
	offset = min(max(offset, 0), int64(len(data)))
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

// Read reads the document at path.
func Read(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read result %s: %w", path, err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("read result %s: larger than %d bytes", path, MaxBytes)
	}
	r, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Write replaces the document at path in one step: a reader sees the old one
// or the whole new one, never a half, also after a crash. The file is 0600.
func Write(path string, r *Result) (err error) {
	data, err := Encode(r)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name()) // the write's own error is the one to tell
			err = fmt.Errorf("write result: %w", err)
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable. A file system that cannot sync a directory
// says EINVAL or ENOTSUP; the rename itself has happened then.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
