package chroma

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Encoding is how the embeddings of an add travel.
type Encoding string

// The two encodings of embeddings in add; a query takes JSON only.
const (
	Base64 Encoding = "base64" // little-endian float32, half the bytes
	JSON   Encoding = "json"   // shortest decimal form of each float32
)

// ErrNotFinite is returned for a vector that JSON or the server cannot take.
var ErrNotFinite = errors.New("vector holds NaN or infinity")

// AppendQuery appends the body of a query for one vector: k results with
// their distances and nothing else.
func AppendQuery(dst []byte, vec []float32, k int) ([]byte, error) {
	dst = append(dst, `{"query_embeddings":[`...)
	dst, err := appendVector(dst, vec)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `],"n_results":`...)
	dst = strconv.AppendInt(dst, int64(k), 10)
	return append(dst, `,"include":["distances"]}`...), nil
}

// AppendAdd appends the body of an add of rows vectors of dim values each,
// stored one after another in flat. id appends the name of the i-th of them
// and must yield characters that need no escaping in JSON.
func AppendAdd(dst []byte, flat []float32, dim int, enc Encoding, id func(dst []byte, i int) []byte) ([]byte, error) {
	if dim <= 0 || len(flat)%dim != 0 {
		return dst, fmt.Errorf("encode add: %d values are no whole number of vectors of %d", len(flat), dim)
	}
	rows := len(flat) / dim
	dst = append(dst, `{"ids":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = id(dst, i)
		dst = append(dst, '"')
	}
	dst = append(dst, `],"embeddings":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		vec := flat[i*dim : (i+1)*dim]
		var err error
		switch enc {
		case Base64:
			dst, err = appendBase64(dst, vec)
		case JSON:
			dst, err = appendVector(dst, vec)
		default:
			err = fmt.Errorf("encode add: unknown encoding %q; use base64 or json", string(enc))
		}
		if err != nil {
			return dst, err
		}
	}
	return append(dst, `]}`...), nil
}

func appendVector(dst []byte, vec []float32) ([]byte, error) {
	dst = append(dst, '[')
	for j, v := range vec {
		if notFinite(v) {
			return dst, ErrNotFinite
		}
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendFloat(dst, float64(v), 'g', -1, 32)
	}
	return append(dst, ']'), nil
}

// appendBase64 encodes three values (12 bytes, 16 characters) at a time, so
// that no second copy of the vector is needed.
func appendBase64(dst []byte, vec []float32) ([]byte, error) {
	dst = append(dst, '"')
	var raw [12]byte
	n := 0
	for _, v := range vec {
		if notFinite(v) {
			return dst, ErrNotFinite
		}
		binary.LittleEndian.PutUint32(raw[n:], math.Float32bits(v))
		n += 4
		if n == len(raw) {
			dst = base64.StdEncoding.AppendEncode(dst, raw[:])
			n = 0
		}
	}
	dst = base64.StdEncoding.AppendEncode(dst, raw[:n])
	return append(dst, '"'), nil
}

func notFinite(v float32) bool {
	return math.Float32bits(v)&0x7f800000 == 0x7f800000
}
