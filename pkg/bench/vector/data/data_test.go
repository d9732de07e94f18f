package data

import (
	"math"
	"slices"
	"testing"
)

// TestGenerateGolden pins the data for ever: a result names its data by kind,
// seed and hash, and an old result must stay comparable. The hashes were
// confirmed by a second implementation in Python.
func TestGenerateGolden(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		data          Spec
		base, queries string
	}{
		{Spec{Kind: Clustered, Seed: 1, Clusters: 64}, "a68b012f3ccc6fd5090022f9df154a5828a7d9861def3bfe8b230cb9b7206f60", "832d90991abdf6a41454a36d21fe2a98d7589d2a368ebe1ec2e47b5c7bdda9d1"},
		{Spec{Kind: Uniform, Seed: 1}, "9d0a3b645badb4d1b4fae361d2d8e00370e80d0df21a73158cfd2935df59732b", "ebaa10dc8fd4755247d59305461a58a13c50ed2f93baa0c0d7a01612c2e48d8d"},
	} {
		base, queries, err := Generate(tc.data, 24, 100, 10)
		if err != nil {
			t.Fatal(err)
		}
		if base.Hash() != tc.base || queries.Hash() != tc.queries {
			t.Errorf("%+v: base %s queries %s", tc.data, base.Hash(), queries.Hash())
		}
	}
}

func TestGenerateProperties(t *testing.T) {
	t.Parallel()
	for _, d := range []Spec{{Kind: Clustered, Seed: 7, Clusters: 9}, {Kind: Uniform, Seed: 7}} {
		large, queries, err := Generate(d, 20, 500, 50)
		if err != nil {
			t.Fatal(err)
		}
		smaller, fewer, err := Generate(d, 20, 100, 5)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(large.Head(100).Flat, smaller.Flat) || !slices.Equal(queries.Head(5).Flat, fewer.Flat) {
			t.Errorf("%s: a smaller set is not the head of a larger one", d.Kind)
		}
		other := d
		other.Seed++
		changed, _, err := Generate(other, 20, 100, 5)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[[20]float32]bool{}
		same := 0
		for i := range large.Len() {
			seen[[20]float32(large.Row(i))] = true
		}
		for i := range queries.Len() {
			if seen[[20]float32(queries.Row(i))] {
				same++
			}
		}
		if len(seen) != 500 || same != 0 || slices.Equal(changed.Flat, smaller.Flat) {
			t.Errorf("%s: %d distinct of 500, %d queries among the base", d.Kind, len(seen), same)
		}
		var sum float64
		for _, v := range large.Flat {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("%s holds %v", d.Kind, v)
			}
			sum += float64(v)
		}
		if mean := sum / float64(len(large.Flat)); math.Abs(mean) > 0.15 {
			t.Errorf("%s: mean %v", d.Kind, mean)
		}
	}
}

// TestBell checks mean, variance and the cut of the noise.
func TestBell(t *testing.T) {
	t.Parallel()
	s := newStream(1, 2, 3)
	const n = 200000
	var sum, sum2, top float64
	for range n {
		v := s.bell()
		sum += v
		sum2 += v * v
		top = max(top, math.Abs(v))
	}
	if math.Abs(sum/n) > 0.01 || math.Abs(sum2/n-1) > 0.01 || top > 3.4642 {
		t.Errorf("mean %v variance %v largest %v", sum/n, sum2/n, top)
	}
}
