// Package data owns the vectors that are stored and asked for: sets of
// float32 vectors, their hash, and the seeded generator. It must not know what
// is near to what, nor who stores them.
package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
)

// The kinds of generated data.
const (
	// Clustered is a mixture of overlapping clusters of unequal size whose
	// directions have unequal spread, so that neighbours differ in distance and
	// an index can miss some of them.
	Clustered = "clustered"
	// Uniform is independent values in [-1, 1). In many dimensions all
	// distances are nearly equal there and recall says little.
	Uniform = "uniform"
)

// Spec describes vectors to generate.
type Spec struct {
	// Kind is Clustered or Uniform.
	Kind string `json:"kind"`
	Seed uint64 `json:"seed"`
	// Clusters is the number of clusters of kind Clustered.
	Clusters int `json:"clusters,omitempty"`
}

// Set is vectors of equal dimension, one after another.
type Set struct {
	Dim  int
	Flat []float32
}

// Len returns the number of vectors.
func (s Set) Len() int {
	if s.Dim == 0 {
		return 0
	}
	return len(s.Flat) / s.Dim
}

// Row returns vector i; it shares memory with the set.
func (s Set) Row(i int) []float32 { return s.Flat[i*s.Dim : (i+1)*s.Dim : (i+1)*s.Dim] }

// Head returns the first n vectors.
func (s Set) Head(n int) Set { return Set{Dim: s.Dim, Flat: s.Flat[:n*s.Dim]} }

// Hash returns the SHA-256 of dimension, count and the little-endian bytes of
// all values.
func (s Set) Hash() string {
	h := sha256.New()
	var buf [4096]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(s.Dim))
	binary.LittleEndian.PutUint64(buf[8:], uint64(s.Len()))
	n := 16
	for _, v := range s.Flat {
		if n+4 > len(buf) {
			h.Write(buf[:n])
			n = 0
		}
		binary.LittleEndian.PutUint32(buf[n:], math.Float32bits(v))
		n += 4
	}
	h.Write(buf[:n])
	return hex.EncodeToString(h.Sum(nil))
}

// Streams of random numbers that one seed yields; base rows and queries must
// not share one.
const (
	streamCentre = 1
	streamBase   = 2
	streamQuery  = 3
)

// Generate returns n base vectors and q queries. Vector i depends on the
// configuration and i alone: a smaller set is the head of a larger one. Every
// step is integer arithmetic, a single rounded product, sum or square root,
// so the bits are the same on every architecture.
func Generate(d Spec, dim, n, q int) (base, queries Set, err error) {
	g, err := newGenerator(d, dim)
	if err != nil {
		return Set{}, Set{}, err
	}
	base, queries = Set{Dim: dim, Flat: make([]float32, n*dim)}, Set{Dim: dim, Flat: make([]float32, q*dim)}
	for i := range n {
		g.fill(base.Row(i), streamBase, uint64(i))
	}
	for i := range q {
		g.fill(queries.Row(i), streamQuery, uint64(i))
	}
	return base, queries, nil
}

type generator struct {
	kind    string
	seed    uint64
	dim     int
	centres []float64 // clusters x dim
	spread  []float64 // by rotated axis
}

func newGenerator(d Spec, dim int) (*generator, error) {
	g := &generator{kind: d.Kind, seed: d.Seed, dim: dim}
	switch d.Kind {
	case Uniform:
		return g, nil
	case Clustered:
	default:
		return nil, fmt.Errorf("generate vectors: unknown kind %q; use clustered or uniform", d.Kind)
	}
	if d.Clusters < 1 {
		return nil, fmt.Errorf("generate vectors: %d clusters; use at least 1", d.Clusters)
	}
	g.centres = make([]float64, d.Clusters*dim)
	for c := range d.Clusters {
		r := newStream(d.Seed, streamCentre, uint64(c))
		for j := range dim {
			g.centres[c*dim+j] = float64(centreSpread * r.bell())
		}
	}
	g.spread = make([]float64, dim)
	for j := range g.spread {
		g.spread[j] = 1 / math.Sqrt(1+float64(float64(j)/spreadFall))
	}
	return g, nil
}

// centreSpread and spreadFall are chosen on a real Chroma 1.5.9 (10,000 x 128,
// l2, k 10, other settings as they come): ef_search 10 gives a recall of 0.88,
// the default of 100 gives 0.997, and single queries are far worse than the
// mean. Sentence embeddings behave like that; a set on which every setting has
// recall 1 would tell nothing.
const (
	centreSpread = 0.35
	spreadFall   = 16.0
)

func (g *generator) fill(row []float32, stream, i uint64) {
	r := newStream(g.seed, stream, i)
	if g.kind == Uniform {
		for j := range row {
			// 24 bits: exact in a float32.
			row[j] = float32(int32(r.next()>>40)-(1<<23)) / (1 << 23)
		}
		return
	}
	// The smaller of two draws makes cluster 0 twice as full as the mean one.
	clusters := uint64(len(g.centres) / g.dim)
	c := min(r.below(clusters), r.below(clusters))
	centre := g.centres[int(c)*g.dim : (int(c)+1)*g.dim]
	for j := range row {
		// Each cluster has its wide axes elsewhere.
		k := (j + int(c)*7) % g.dim
		noise := float64(g.spread[k] * r.bell())
		row[j] = float32(centre[j] + noise)
	}
}

// stream is splitmix64 started from a hash of its coordinates: tiny, exact,
// and the same for ever, which math/rand's floats do not promise.
type stream struct{ state uint64 }

func newStream(seed, kind, i uint64) *stream {
	s := &stream{state: seed ^ 0x9e3779b97f4a7c15}
	for _, v := range [2]uint64{kind, i} {
		s.state = s.next() ^ (v * 0xd1342543de82ef95)
	}
	s.next()
	return s
}

func (s *stream) next() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// below returns a number in [0, n) by multiplication; its bias is n/2^64.
func (s *stream) below(n uint64) uint64 {
	hi, _ := bits.Mul64(s.next(), n)
	return hi
}

// bell returns the sum of four uniform 16-bit numbers, centred and scaled to
// variance 1: a bell curve cut at 3.46 made of integers only.
func (s *stream) bell() float64 {
	z := s.next()
	sum := int64(z&0xffff) + int64(z>>16&0xffff) + int64(z>>32&0xffff) + int64(z>>48)
	const deviation = 37837.22747181646 // sqrt(4 * (65536^2 - 1) / 12)
	return float64(2*sum-4*65535) / (2 * deviation)
}
