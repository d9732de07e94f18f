package record

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// JSONL writes every row that can be trusted as one JSON object a line, keys
// in the order of the columns, null for what is missing or not finite. The
// reader's Warning tells afterwards whether the file was whole.
func JSONL(w io.Writer, r *Reader) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var keys [][]byte
	for _, c := range r.Header().Columns {
		k, err := json.Marshal(c.Name)
		if err != nil {
			return fmt.Errorf("export records: %w", err)
		}
		keys = append(keys, append(k, ':'))
	}
	var line []byte
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		line = append(line[:0], '{')
		for i, v := range row {
			if i > 0 {
				line = append(line, ',')
			}
			line = append(line, keys[i]...)
			if line, err = appendJSON(line, r.Header().Columns[i].Kind, v); err != nil {
				return fmt.Errorf("export records: %w", err)
			}
		}
		line = append(line, '}', '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("export records: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export records: %w", err)
	}
	return nil
}

func appendJSON(dst []byte, k Kind, v Value) ([]byte, error) {
	switch {
	case v.Null, k == KindFloat && (math.IsNaN(v.Float) || math.IsInf(v.Float, 0)):
		return append(dst, "null"...), nil
	case k == KindInt:
		return strconv.AppendInt(dst, v.Int, 10), nil
	case k == KindInts:
		dst = append(dst, '[')
		for i, x := range v.Ints {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendInt(dst, x, 10)
		}
		return append(dst, ']'), nil
	case k == KindFloat:
		b, err := json.Marshal(v.Float)
		return append(dst, b...), err
	default:
		b, err := json.Marshal(v.Str)
		return append(dst, b...), err
	}
}
