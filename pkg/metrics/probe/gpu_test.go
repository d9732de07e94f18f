package probe

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "gpu", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func fixtureFields(t testing.TB) []string {
	return strings.Split(strings.TrimSpace(string(fixture(t, "fields.txt"))), ",")
}

// The expected values were worked out from the documented units by whoever
// made the fixtures, not by this parser.
func TestParseSMIAgainstExpectedValues(t *testing.T) {
	t.Parallel()
	var want struct {
		GPUs []struct {
			Index    int     `json:"index"`
			UUID     string  `json:"uuid"`
			Name     string  `json:"name"`
			Util     float64 `json:"util_ratio"`
			MemUsed  float64 `json:"mem_used_bytes"`
			MemTotal float64 `json:"mem_total_bytes"`
			Temp     float64 `json:"temp_celsius"`
			Power    float64 `json:"power_watts"`
		} `json:"gpus"`
	}
	if err := json.Unmarshal(fixture(t, "expected_a100x4.json"), &want); err != nil {
		t.Fatal(err)
	}
	got, problems := ParseSMI(fixture(t, "smi_a100x4.csv"), fixtureFields(t))
	if len(problems) != 0 || len(got) != 4 || len(want.GPUs) != 4 {
		t.Fatalf("%d GPUs, problems %v", len(got), problems)
	}
	for i, w := range want.GPUs {
		x := GPU{
			Index: strconv.Itoa(w.Index), UUID: w.UUID, Name: w.Name, UtilRatio: Reading{V: w.Util}, MemUsed: Reading{V: w.MemUsed},
			MemTotal: Reading{V: w.MemTotal}, Temperature: Reading{V: w.Temp}, Power: Reading{V: w.Power},
		}
		if d := cmp.Diff(x, got[i]); d != "" {
			t.Errorf("GPU %d: %s", i, d)
		}
	}
}

func TestParseSMIOddities(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file     string
		gpus     int
		problems int
		check    func([]GPU) string
	}{
		{"smi_mig_gpu1.csv", 4, 0, func(g []GPU) string {
			if !g[1].MIG || !strings.Contains(g[1].UtilRatio.Reason, "MIG") || g[1].MemUsed.V != 24205*1048576 {
				return "the MIG GPU has no utilization and the whole card's memory"
			}
			return ""
		}},
		{"smi_old_driver.csv", 1, 0, func(g []GPU) string {
			if g[0].Power.Reason != "nvidia-smi says [Not Supported]" || g[0].MIG {
				return "power is not supported"
			}
			return ""
		}},
		{"smi_unknown_error.csv", 4, 0, func(g []GPU) string {
			if g[1].Power.Reason == "" || g[1].Temperature.V != 69 || g[0].Power.V != 312.45 {
				return "only the power of GPU 1 is unknown"
			}
			return ""
		}},
		{"smi_no_mig_card.csv", 1, 0, func(g []GPU) string {
			if g[0].MIG || g[0].Power.V != 312.45 {
				return "a card without MIG"
			}
			return ""
		}},
		{"smi_no_permission.csv", 1, 0, nil},
		{"smi_throttled.csv", 1, 0, nil},
		{"smi_lost_gpu.out", 3, 1, func(g []GPU) string {
			if g[0].Index+g[1].Index+g[2].Index != "023" {
				return "GPUs 0, 2 and 3 are left"
			}
			return ""
		}},
		{"err_no_driver.out", 0, 1, nil},
		{"err_no_devices.out", 0, 1, nil},
		{"err_version_mismatch.out", 0, 2, nil},
	}
	for _, tc := range tests {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			g, problems := ParseSMI(fixture(t, tc.file), fixtureFields(t))
			if len(g) != tc.gpus || len(problems) != tc.problems {
				t.Fatalf("%d GPUs, problems %v", len(g), problems)
			}
			if tc.check != nil {
				if why := tc.check(g); why != "" {
					t.Errorf("want: %s; got %+v", why, g)
				}
			}
		})
	}
	if r := reading("ERR!", 1, 0, 10); r.Reason == "" {
		t.Error("ERR! is a number")
	}
	if r := reading("NaN", 1, 0, 10); r.Reason == "" {
		t.Error("NaN is a number")
	}
	twice := string(fixture(t, "smi_throttled.csv"))
	if g, p := ParseSMI([]byte(twice+twice), fixtureFields(t)); len(g) != 1 || len(p) != 1 {
		t.Errorf("a GPU listed twice: %d GPUs, problems %v", len(g), p)
	}
}

type answer struct {
	out   string
	code  int
	found bool
	err   error
}

// scripted answers nvidia-smi calls in turn and keeps their arguments.
func scripted(calls *[]string, answers ...answer) Runner {
	return func(_ context.Context, args []string) ([]byte, []byte, int, bool, error) {
		i := len(*calls)
		*calls = append(*calls, strings.Join(args, " "))
		a := answers[min(i, len(answers)-1)]
		return []byte(a.out), nil, a.code, a.found, a.err
	}
}

const twoGPUs = "0, GPU-a, A100, 50, 10, 20, 30, 40.5, Disabled\n1, GPU-b, A100, [N/A], 10, 20, 30, ERR!, Enabled\n"

func TestCollectGPUs(t *testing.T) {
	t.Parallel()
	var calls []string
	c := Collector{Root: t.TempDir(), SMI: scripted(&calls, answer{out: twoGPUs, found: true})}
	s := c.Collect(t.Context())
	for k, want := range map[string]float64{
		`aifbench_gpu_util_ratio{gpu="0",uuid="GPU-a"}`:        0.5,
		`aifbench_gpu_memory_used_bytes{gpu="0",uuid="GPU-a"}`: 10485760,
		`aifbench_gpu_power_watts{gpu="0",uuid="GPU-a"}`:       40.5,
		`aifbench_gpu_present{gpu="1",uuid="GPU-b"}`:           1,
	} {
		if v, ok := s.Get(k); !ok || v != want {
			t.Errorf("%s = %v, %v, want %v", k, v, ok, want)
		}
	}
	for _, k := range []string{`aifbench_gpu_util_ratio{gpu="1",uuid="GPU-b"}`, `aifbench_gpu_power_watts{gpu="1",uuid="GPU-b"}`} {
		if v, ok := s.Get(k); ok {
			t.Errorf("%s = %v, want it absent", k, v)
		}
	}
	if want := "--query-gpu=index,uuid,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,mig.mode.current --format=csv,noheader,nounits"; calls[0] != want {
		t.Errorf("asked %q", calls[0])
	}
}

func TestCollectWithoutNvidiaSMIAsksOnce(t *testing.T) {
	t.Parallel()
	var calls []string
	c := Collector{Root: t.TempDir(), SMI: scripted(&calls, answer{})}
	for range 3 {
		s := c.Collect(t.Context())
		if last := s.Missing[len(s.Missing)-1]; last.What != "gpu" || last.Reason != "nvidia-smi is not on this node" {
			t.Errorf("missing %+v", last)
		}
	}
	if len(calls) != 1 {
		t.Errorf("asked %d times", len(calls))
	}
}

func TestCollectLeavesAFailingNvidiaSMIAlone(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var calls []string
	c := Collector{Root: t.TempDir(), Now: func() time.Time { return now }, SMI: scripted(&calls,
		answer{out: string(fixture(t, "err_no_driver.out")), code: 9, found: true},
		answer{found: true, err: errors.New("timeout")},
		answer{out: twoGPUs, found: true})}
	for i, step := range []struct {
		after time.Duration
		calls int
		why   string
	}{{0, 1, "the driver is not loaded"}, {29 * time.Second, 1, "the driver is not loaded"}, {2 * time.Second, 2, "timeout"}, {31 * time.Second, 3, ""}} {
		now = now.Add(step.after)
		s := c.Collect(t.Context())
		why := ""
		for _, m := range s.Missing {
			if m.What == "gpu" {
				why = m.Reason
			}
		}
		if len(calls) != step.calls || !strings.Contains(why, step.why) || (step.why == "") != (why == "") {
			t.Errorf("step %d: %d calls, %q", i, len(calls), why)
		}
	}
}

func TestCollectAsksAnOldDriverForLess(t *testing.T) {
	t.Parallel()
	var calls []string
	c := Collector{Root: t.TempDir(), SMI: scripted(&calls,
		answer{out: string(fixture(t, "err_bad_field.out")), code: 2, found: true},
		answer{out: "0, GPU-a, V100, 50, 10, 20, 30, 40.5\n", found: true})}
	s := c.Collect(t.Context())
	if v, ok := s.Get(`aifbench_gpu_util_ratio{gpu="0",uuid="GPU-a"}`); !ok || v != 0.5 {
		t.Errorf("util %v, %v; calls %q", v, ok, calls)
	}
	if c.Collect(t.Context()); len(calls) != 3 || strings.Contains(calls[2], "mig") {
		t.Errorf("the next sample asks %q", calls)
	}
}

func FuzzParseSMI(f *testing.F) {
	for _, n := range []string{"smi_a100x4.csv", "smi_mig_gpu1.csv", "smi_lost_gpu.out", "err_no_driver.out"} {
		f.Add(fixture(f, n))
	}
	fields := fixtureFields(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		gpus, _ := ParseSMI(raw, fields)
		for _, g := range gpus {
			for _, r := range []Reading{g.UtilRatio, g.MemUsed, g.MemTotal, g.Power} {
				if r.Reason == "" && !(r.V >= 0) {
					t.Errorf("a reading of %v from %q", r.V, raw)
				}
			}
		}
	})
}
