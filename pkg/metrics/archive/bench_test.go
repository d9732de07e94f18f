package archive_test

import (
	"bytes"
	"testing"

	"aifbench/pkg/metrics/archive"
)

func BenchmarkVerify(b *testing.B) {
	for _, f := range formats {
		b.Run(string(f), func(b *testing.B) {
			var buf bytes.Buffer
			if _, err := archive.Bundle(b.Context(), &buf, f, members(), archive.Meta{}, archive.Secrets{}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := archive.Verify(b.Context(), bytes.NewReader(buf.Bytes()), f, archive.DefaultLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
