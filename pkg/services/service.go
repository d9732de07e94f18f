// Package services owns the catalogue: what each service can be told, which
// scripts and which plan a start of it needs, and where its load goes. One
// file a service, one line in the catalogue. It must not know how load is
// made, how a job is submitted, or what is printed.
package services

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/node"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
	"aifbench/templates"
)

// Params are the parameters of one service. Its exported fields, in
// snake_case, are what run.json records.
type Params interface {
	AddFlags(fs *pflag.FlagSet)
	// Validate refuses what cannot work, before anything is written. Errors
	// are the user's: they say what to type next.
	Validate(c Context) error
}

// Context is what a service may know of the place it will run in.
type Context struct {
	RunID  string
	RunDir string
	Nonce  string
	Home   string
	Bin    string // path of the program as jobs call it
	Site   site.Site
	// LookPath finds a command the way a job of this site would.
	LookPath func(name string) (string, error)
	// Stat and ReadDir of the login node's view; nil fs.FileInfo with an error otherwise.
	Stat func(path string) (fs.FileInfo, error)
	// Abs makes a path absolute against the user's working directory.
	Abs func(path string) string
}

// Script is a file of the run directory that is rendered from a template.
type Script struct {
	Name     string
	Template string
	// Parts are templates whose definitions Template uses.
	Parts []string
	Data  any
}

// Draft is everything a start needs that depends on the service.
type Draft struct {
	Engine   string
	Job      slurm.Header
	Plan     node.Plan
	Scripts  []Script
	Owned    []string // directories that will be this run's
	Warnings []string
}

// Service is one entry of the catalogue.
type Service struct {
	Name    string
	Summary string
	New     func() Params
	Draft   func(p Params, c Context) (Draft, error)
	// Bench tells whether `bench` knows the service.
	Bench bool
	// KeepsReady: the run stays ready after its job ended, until stop.
	KeepsReady bool
}

// ErrUnknown: no such service.
var ErrUnknown = errors.New("unknown service")

// Lookup returns the service of that name. The error lists what there is.
func Lookup(name string) (Service, error) {
	for _, s := range Catalog() {
		if s.Name == name {
			return s, nil
		}
	}
	return Service{}, fmt.Errorf("%w %q; services: %s", ErrUnknown, name, strings.Join(Names(), ", "))
}

// Names lists the services in the order of the catalogue.
func Names() []string {
	var out []string
	for _, s := range Catalog() {
		out = append(out, s.Name)
	}
	return out
}

// Render renders a script of a draft and checks it.
func Render(s Script) ([]byte, error) {
	var text []byte
	for _, name := range append([]string{s.Template}, s.Parts...) {
		part, err := fs.ReadFile(templates.FS, name)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", s.Name, err)
		}
		text = append(text, part...)
	}
	out, err := slurm.Render(s.Template, string(text), s.Data)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", s.Name, err)
	}
	if err := slurm.Lint(out); err != nil {
		return nil, fmt.Errorf("render %s: %w", s.Name, err)
	}
	return out, nil
}

// UsageError is a mistake of the user; its text ends with what to type next.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}
