package main

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// No flag of a verb or a service hides one of the program's own, and every
// command says what it is for.
func TestReviewFlagsDoNotClash(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{streams: streams{out: io.Discard, err: io.Discard}})
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" && c != root {
			t.Errorf("%s has no summary", c.CommandPath())
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if g := root.PersistentFlags().Lookup(f.Name); g != nil {
				t.Errorf("%s --%s hides the program's own", c.CommandPath(), f.Name)
			}
			if f.Shorthand != "" && root.PersistentFlags().ShorthandLookup(f.Shorthand) != nil {
				t.Errorf("%s -%s hides the program's own", c.CommandPath(), f.Shorthand)
			}
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
