package promq

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"aifbench/pkg/metrics/probe"
)

// names reads the metric names that a real server of that version exported.
func names(t *testing.T, file string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, n := range strings.Fields(string(data)) {
		out[n] = true
	}
	return out
}

// The newest form of every question must name metrics that the newest server
// seen really has: a renamed metric would otherwise only show as "no series".
func TestNewestNamesExist(t *testing.T) {
	t.Parallel()
	have := names(t, "vllm-0.32.0.names")
	name := regexp.MustCompile(`vllm:[a-z0-9_]+`)
	n := 0
	for _, s := range vllmSummaries() {
		for _, m := range name.FindAllString(s.queries[0], -1) {
			n++
			if !have[m] {
				t.Errorf("%s asks for %s, which vLLM 0.32.0 does not have", s.figure, m)
			}
		}
		for _, form := range s.queries[1:] {
			for _, m := range name.FindAllString(form, -1) {
				if have[m] {
					t.Errorf("%s asks for %s only in an older form, but the newest server has it", s.figure, m)
				}
			}
		}
	}
	for _, tr := range trends("vllm") {
		for _, m := range name.FindAllString(tr.queries[0], -1) {
			n++
			if !have[m] {
				t.Errorf("chart %s asks for %s, which vLLM 0.32.0 does not have", tr.chart, m)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d names were compared", n)
	}
	have = names(t, "chroma-1.5.9.names")
	for _, s := range chromaSummaries() {
		if s.method == fromZero && !have[s.queries[0]] {
			t.Errorf("%s asks for %s, which Chroma 1.5.9 does not send", s.figure, s.queries[0])
		}
	}
}

// Our own exporter and our own questions must speak of the same series.
func TestProbeNamesExist(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, d := range probe.Defs() {
		have[d.Name] = true
	}
	name := regexp.MustCompile(`aifbench_[a-z0-9_]+`)
	var queries []string
	for _, s := range append(hostSummaries(), gpuSummaries()...) {
		queries = append(queries, s.queries...)
	}
	for _, tr := range append(trends("vllm"), trends("lustre")...) {
		queries = append(queries, tr.queries...)
	}
	n := 0
	for _, m := range name.FindAllString(strings.Join(queries, " "), -1) {
		n++
		if !have[m] {
			t.Errorf("asked for %s, which the exporter does not have", m)
		}
	}
	if n < 25 {
		t.Errorf("only %d names were compared", n)
	}
}
