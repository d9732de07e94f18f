// Package exact owns what is near to what: the metrics, exact nearest
// neighbours by comparing all pairs, recall under its named definitions, and
// the judgement whether recall says anything on given vectors. It must not
// know where vectors come from or who answered.
package exact

import "math"

// Metric is how the distance of two vectors is computed.
type Metric string

// The metrics of Chroma. L2 is the squared Euclidean distance, Cosine is one
// minus the cosine, IP is one minus the inner product.
const (
	L2     Metric = "l2"
	Cosine Metric = "cosine"
	IP     Metric = "ip"
)

// Distance computes the distance of two vectors of equal length in float64
// from float32 values. A zero vector has cosine distance 1 to everything, as
// on the server.
func Distance(m Metric, q, v []float32) float64 {
	v = v[:len(q)]
	switch m {
	case L2:
		var sum float64
		for i, a := range q {
			d := float64(a) - float64(v[i])
			sum += d * d
		}
		return sum
	case IP:
		return 1 - dot(q, v)
	default:
		return cosine(dot(q, v), norm(q), norm(v))
	}
}

func cosine(dot, nq, nv float64) float64 {
	if nq == 0 || nv == 0 {
		return 1
	}
	return 1 - dot/(nq*nv)
}

func dot(q, v []float32) float64 {
	v = v[:len(q)]
	var sum float64
	for i, a := range q {
		sum += float64(a) * float64(v[i])
	}
	return sum
}

func norm(v []float32) float64 { return math.Sqrt(dot(v, v)) }

// Tolerance bounds how far a distance summed in float32, in whatever order,
// can be from the exact one: (d+8) roundings of 2^-23 of the sum of the
// absolute terms, which is the distance itself for l2, 1 for cosine and the
// product of the norms for ip; and an absolute 1e-6, the noise that a real
// server shows at distance zero.
func Tolerance(m Metric, q, v []float32, exact float64) float64 {
	scale := 1.0
	switch m {
	case L2:
		scale = exact
	case IP:
		scale = 1 + norm(q)*norm(v)
	}
	return 1e-6 + float64(len(q)+8)*0x1p-23*scale
}

// length turns a distance into one that obeys the triangle inequality: the
// root of a squared distance, the chord of a cosine distance. ok is false for
// ip, which has none.
func length(m Metric, d float64) (float64, bool) {
	switch m {
	case L2:
		return math.Sqrt(max(d, 0)), true
	case Cosine:
		return math.Sqrt(2 * max(d, 0)), true
	default:
		return 0, false
	}
}
