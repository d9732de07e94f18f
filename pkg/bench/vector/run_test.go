package vector_test

import (
	"testing"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/vector"
	"aifbench/pkg/metrics/result"
	sim "aifbench/pkg/services/sim/chroma"
)

func TestTry(t *testing.T) {
	url := startSim(t, sim.Config{})
	dir := t.TempDir()
	res, err := vector.Run(t.Context(), small(url), load.Env{Dir: dir, Run: "chroma-1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := result.Encode(&res)
	t.Log(string(b), err)
}

func TestTryReal(t *testing.T) {
	s := startReal(t)
	cfg := vector.Default()
	cfg.Target.URL, cfg.Target.PersistDir = s.url, s.persist
	cfg.DurationS = 3
	res, err := vector.Run(t.Context(), cfg, load.Env{Dir: t.TempDir(), Run: "chroma-1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := result.Encode(&res)
	t.Log(string(b), err)
}
