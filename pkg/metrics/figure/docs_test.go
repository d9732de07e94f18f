package figure_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/metrics/figure"
)

var update = flag.Bool("update", false, "rewrite docs/figures.md")

// The document is made from the table, so it cannot say something else.
func TestDocument(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "..", "docs", "figures.md")
	want := document()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the table of figures; run: go test ./pkg/metrics/figure -update", path)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Figures

Every number that a result, gate, table or report can hold. Made from the table in ` + "`pkg/metrics/figure`" + ` by
` + "`go test ./pkg/metrics/figure -update`" + `; do not edit by hand.

- A figure is null with a reason where it could not be measured, never zero.
- Quantiles are nearest ranks over raw values unless the figure says otherwise, and exist only where at least ten samples
  lie beyond them: n(1-q) >= 10, so 20 for p50, 200 for p95, 1000 for p99. Their 95 % interval is made of order
  statistics and needs no distribution; it is absent where the sample is too small for it.
- Ratios of counts carry the 95 % Wilson interval where one is given.
- "Better" is the direction that gates and comparisons use.
`)
	sections := []struct{ service, title string }{
		{"", "Every service, hosts and GPUs"},
		{"vllm", "vllm"},
		{"chroma", "chroma"},
		{"lustre", "lustre"},
		{"monitors", "monitors"},
	}
	direction := map[figure.Direction]string{figure.Higher: "higher", figure.Lower: "lower", figure.Neutral: "-"}
	for _, s := range sections {
		b.WriteString("\n## " + s.title + "\n\n| figure | unit | better | definition |\n|---|---|---|---|\n")
		for _, d := range figure.All() {
			if d.Service == s.service {
				b.WriteString("| `" + d.Name + "` | " + d.Unit + " | " + direction[d.Direction] + " | " + strings.ReplaceAll(d.Definition, "|", "\\|") + " |\n")
			}
		}
	}
	return b.String()
}
