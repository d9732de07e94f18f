package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
)

// Set by the linker; a plain `go build` leaves them to the build information.
var (
	version = ""
	commit  = ""
)

type versionDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Kind          string `json:"kind"`
	Version       string `json:"version"`
	Commit        string `json:"commit"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
}

func versionInfo() versionDoc {
	d := versionDoc{1, "version", version, commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && d.Commit == "" {
				d.Commit = s.Value
			}
		}
	}
	if d.Version == "" {
		d.Version = "dev"
	}
	if d.Commit == "" {
		d.Commit = "unknown"
	}
	return d
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Version, commit and Go version",
		Long:  "Exit status: 0.",
		RunE: func(*cobra.Command, []string) error {
			d := versionInfo()
			return a.emit(d, func() *table.Table {
				t := table.New("version", "commit", "go", "platform")
				t.Row(d.Version, d.Commit, d.Go, d.Platform)
				return t
			})
		},
	}
}

// valueText writes a profile value for eyes.
func valueText(v any) any {
	switch x := v.(type) {
	case string:
		return dash(x)
	case []string:
		return dash(strings.Join(x, "; "))
	}
	return fmt.Sprint(v)
}
