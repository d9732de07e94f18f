package probe

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var common = []Label{{"run", "vllm-20260101-000000-abcd"}, {"service", "vllm"}, {"node", "n1"}}

func TestWriteTextIsExactAndOrdered(t *testing.T) {
	t.Parallel()
	s := Sample{Values: []Value{
		{Name: gpuPower, Labels: []Label{{"gpu", "1"}, {"uuid", "b"}}, V: 51.26},
		{Name: nodeLoad1, V: 0.5},
		{Name: gpuPower, Labels: []Label{{"gpu", "0"}, {"uuid", "a\"\\\nz"}}, V: 312.45},
	}, Missing: []Missing{{"gpu", "no \x1b[31mdriver"}}}
	var b bytes.Buffer
	if err := WriteText(&b, s, common); err != nil {
		t.Fatal(err)
	}
	const l = `run="vllm-20260101-000000-abcd",service="vllm",node="n1"`
	want := `# HELP aifbench_node_load1 Load average of the node over one minute.
# TYPE aifbench_node_load1 gauge
aifbench_node_load1{` + l + `} 0.5
# HELP aifbench_gpu_power_watts Power drawn by the GPU.
# TYPE aifbench_gpu_power_watts gauge
aifbench_gpu_power_watts{` + l + `,gpu="0",uuid="a\"\\\nz"} 312.45
aifbench_gpu_power_watts{` + l + `,gpu="1",uuid="b"} 51.26
# HELP aifbench_probe_missing 1 for each thing that could not be read.
# TYPE aifbench_probe_missing gauge
aifbench_probe_missing{` + l + `,what="gpu",reason="no ?[31mdriver"} 1
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// Prometheus' own parser and linter judge the exposition of a whole machine.
func TestExpositionIsTakenByPrometheus(t *testing.T) {
	t.Parallel()
	var calls []string
	c := Collector{
		Root: machine(t, fullMachine()), SMI: scripted(&calls, answer{out: twoGPUs, found: true}),
		Groups: func() map[string]int { return map[string]int{"vllm": 4240} },
	}
	s := c.Collect(t.Context())
	var b bytes.Buffer
	if err := WriteText(&b, s, common); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		n += len(f.GetMetric())
	}
	if want := len(s.Values) + len(s.Missing); n != want {
		t.Errorf("%d series parsed, %d written", n, want)
	}
	for _, d := range Defs() {
		if f := families[d.Name]; f == nil && d.Name != jobMemLimit {
			t.Errorf("%s is not exported by a machine that has everything", d.Name)
		} else if f != nil && strings.ToLower(f.GetType().String()) != string(d.Type) {
			t.Errorf("%s is a %s", d.Name, f.GetType())
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIP-LAB: promtool is not on PATH: the exposition is not linted")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(b.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestTelemetryRoundTrip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := CreateTelemetry(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s float64) time.Time { return time.UnixMilli(int64(s * 1000)).UTC() }
	power := func(v float64) Value { return Value{Name: gpuPower, Labels: []Label{{"gpu", "0"}}, V: v} }
	samples := []Sample{
		{T: at(1000.25), Values: []Value{{Name: nodeLoad1, V: 1.5}}, Missing: []Missing{{"gpu", "none yet"}}},
		{T: at(1002.25), Values: []Value{{Name: nodeLoad1, V: 0}, power(312.45)}},
		{T: at(1004.25), Values: []Value{power(300)}}, // load is absent, not zero
	}
	for _, s := range samples {
		if err := w.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, problems := ReadTelemetry(dir)
	want := []Series{
		{Node: "n1", Key: nodeLoad1, Points: []Point{{at(1000.25), 1.5}, {at(1002.25), 0}}},
		{Node: "n1", Key: gpuPower + `{gpu="0"}`, Points: []Point{{at(1002.25), 312.45}, {at(1004.25), 300}}},
	}
	if d := cmp.Diff(want, got); d != "" || len(problems) != 0 {
		t.Errorf("%s %v", d, problems)
	}
	path := dir + "/n1.jsonl"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// A line that is torn at any byte loses that line alone and is no problem.
	cut := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	for n := cut; n < len(raw); n++ {
		got, problems := ParseTelemetry("n1", raw[:n])
		if len(problems) != 0 || len(got) != 2 || len(got[1].Points) > 2 || len(got[0].Points) != 2 {
			t.Fatalf("cut at %d of %d: %v %v", n, len(raw), got, problems)
		}
	}

	// A writer that follows a killed one ends the torn line first.
	if err := os.WriteFile(path, raw[:len(raw)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if w, err = CreateTelemetry(dir, "n1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(Sample{T: at(1010), Values: []Value{power(1)}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, problems = ReadTelemetry(dir)
	if len(problems) != 1 || len(got) != 2 || len(got[1].Points) != 2 || got[1].Points[1].V != 1 {
		t.Errorf("after a torn line: %v, problems %v", got, problems)
	}
}

func TestReadTelemetryReportsDamage(t *testing.T) {
	t.Parallel()
	if s, p := ReadTelemetry(t.TempDir() + "/none"); s != nil || p != nil {
		t.Errorf("a directory that is not there: %v %v", s, p)
	}
	raw := `{"t":1,"v":[1]}` + "\n" + `{"schema_version":1,"series":["a"]}` + "\n" + `{"t":2,"v":[5]}` + "\n" + `{"t":3,"v":[5,6]}` + "\n" +
		"garbage\n" + `{"schema_version":9,"series":["b"]}` + "\n"
	s, p := ParseTelemetry("h", []byte(raw))
	if len(s) != 1 || len(s[0].Points) != 1 || s[0].Points[0].V != 5 {
		t.Errorf("series %v", s)
	}
	if len(p) != 4 {
		t.Errorf("problems %v", p)
	}
}

func FuzzParseTelemetry(f *testing.F) {
	f.Add([]byte(`{"schema_version":1,"series":["a","a"]}` + "\n" + `{"t":2,"v":[5,null]}` + "\n"))
	f.Add([]byte(`{"schema_version":1,"series":[]}` + "\n" + `{"t":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		series, _ := ParseTelemetry("h", raw)
		for _, s := range series {
			for i := 1; i < len(s.Points); i++ {
				if s.Points[i].T.Before(s.Points[i-1].T) {
					t.Fatal("points out of order")
				}
			}
		}
	})
}
