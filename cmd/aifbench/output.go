package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
)

// Output formats of every command.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatCSV   = "csv"
)

var formats = []string{formatTable, formatJSON, formatCSV}

// enum is a flag value with a fixed list of words.
type enum struct {
	value   *string
	allowed []string
}

func (e enum) String() string { return *e.value }
func (e enum) Type() string   { return strings.Join(e.allowed, "|") }
func (e enum) Set(s string) error {
	if !slices.Contains(e.allowed, s) {
		return fmt.Errorf("use one of %s", strings.Join(e.allowed, ", "))
	}
	*e.value = s
	return nil
}

// enumFlag adds a flag that takes one of words and completes them.
func enumFlag(cmd *cobra.Command, p *string, name, short, def, help string, words []string) {
	*p = def
	cmd.Flags().VarP(enum{p, words}, name, short, help)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag was just added
}

// emit writes the result of a command in the asked format: one document, or
// the table made of it.
func (a *app) emit(doc any, tab func() *table.Table) error {
	switch a.output {
	case formatJSON:
		raw, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return fmt.Errorf("write result: %w", err)
		}
		a.emitted = true
		_, err = fmt.Fprintf(a.out, "%s\n", raw)
		return err
	case formatCSV:
		return tab().WriteCSV(a.out)
	}
	return tab().WriteText(a.out)
}

// warn tells of something the user should know.
func (a *app) warn(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, "warning: %s\n", table.Clean(fmt.Sprintf(format, args...)))
	}
}
