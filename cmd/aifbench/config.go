package main

import (
	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services/site"
)

type configDoc struct {
	SchemaVersion int          `json:"schema_version"`
	Kind          string       `json:"kind"`
	Site          string       `json:"site"`
	Chosen        string       `json:"chosen_by"`
	Home          string       `json:"home"`
	Sites         []string     `json:"sites"`
	Values        []site.Value `json:"values"`
}

func newConfigCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "The site profile in force and where each value came from"}
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Every key of the site profile with value and origin",
		Long:  "Order: flags, AIFBENCH_<KEY>, configuration file, built-in site, default.\n\nExit status: 0; 2 the configuration is wrong.",
		RunE:  func(*cobra.Command, []string) error { return runConfigShow(a) },
	}, &cobra.Command{
		Use:   "keys",
		Short: "Every key a site of the configuration file may have",
		Long:  "Exit status: 0.",
		RunE:  func(*cobra.Command, []string) error { return runConfigKeys(a) },
	})
	return cmd
}

func runConfigShow(a *app) error {
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	st, err := a.store()
	if err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	doc := configDoc{1, "config", s.Name, s.why, st.Home, cfg.Names(), s.Values()}
	return a.emit(doc, func() *table.Table {
		t := table.New("key", "value", "origin")
		t.Row("site", s.Name, s.why)
		t.Row("home", st.Home, "")
		for _, v := range doc.Values {
			t.Row(v.Key, valueText(v.Value), v.Origin)
		}
		return t
	})
}

func runConfigKeys(a *app) error {
	values := (site.Site{}).Values()
	doc := configDoc{SchemaVersion: 1, Kind: "config_keys", Sites: []string{}, Values: values}
	return a.emit(doc, func() *table.Table {
		t := table.New("key", "meaning")
		for _, v := range values {
			t.Row(v.Key, v.Doc)
		}
		return t
	})
}
