package site

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Config is the configuration file.
type Config struct {
	// Site is the site used when neither flag nor environment names one.
	Site string `yaml:"site"`
	// Home is AIFBENCH_HOME when the variable is not set.
	Home string `yaml:"home"`
	// Sites are profiles by name; base names the one they start from.
	Sites map[string]yaml.Node `yaml:"sites"`

	path string
}

// ParseConfig reads a configuration file strictly: an unknown key is an error
// that names file, line and column. Every error is reported, not the first.
func ParseConfig(path string, raw []byte) (Config, error) {
	c := Config{path: path}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return c, nil
	}
	if err := yaml.Load(raw, &c, yaml.WithKnownFields()); err != nil {
		return c, located(path, err)
	}
	names := make([]string, 0, len(c.Sites))
	for name := range c.Sites {
		names = append(names, name)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		if _, err := c.resolve(name, nil); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Site != "" && c.Site != "auto" {
		if _, err := c.resolve(c.Site, nil); err != nil {
			errs = append(errs, err)
		}
	}
	return c, errors.Join(errs...)
}

// Names lists the sites that can be named, built-in ones first.
func (c Config) Names() []string {
	var out []string
	for _, b := range builtins() {
		out = append(out, b.name)
	}
	var own []string
	for n := range c.Sites {
		if !slices.Contains(out, n) {
			own = append(own, n)
		}
	}
	slices.Sort(own)
	return append(out, own...)
}

// Resolve returns the named site: its built-in base, then the file.
func (c Config) Resolve(name string) (Site, error) { return c.resolve(name, nil) }

func (c Config) resolve(name string, seen []string) (Site, error) {
	if slices.Contains(seen, name) {
		return Site{}, fmt.Errorf("%s: site %s is its own base (%s)", c.path, name, strings.Join(append(seen, name), " -> "))
	}
	node, inFile := c.Sites[name]
	if !inFile {
		for _, b := range builtins() {
			if b.name == name {
				return builtin(b.name, b.p), nil
			}
		}
		return Site{}, fmt.Errorf("%w %q; known: %s", ErrUnknown, name, strings.Join(c.Names(), ", "))
	}
	if node.Kind != yaml.MappingNode {
		return Site{}, fmt.Errorf("%s:%d:%d: site %s must be a mapping of keys", c.path, node.Line, node.Column, name)
	}
	base := Slurm
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == "base" {
			base = node.Content[i+1].Value
		}
	}
	var s Site
	var err error
	if base == name {
		s, err = Config{path: c.path}.resolve(base, nil)
	} else {
		s, err = c.resolve(base, append(seen, name))
	}
	if err != nil {
		return Site{}, fmt.Errorf("%s:%d:%d: base of site %s: %w", c.path, node.Line, node.Column, name, err)
	}
	s.Name = name
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, val := node.Content[i], node.Content[i+1]
		if key.Value == "base" {
			continue
		}
		if err := s.decode(key.Value, val); err != nil {
			return Site{}, fmt.Errorf("%s:%d:%d: site %s: %w", c.path, key.Line, key.Column, name, err)
		}
		s.setOrigin(key.Value, fmt.Sprintf("%s:%d", c.path, key.Line))
		if err := s.Profile.check(key.Value, fmt.Sprintf("%s:%d:%d", c.path, val.Line, val.Column)); err != nil {
			return Site{}, err
		}
	}
	return s, nil
}

func (s *Site) decode(key string, val *yaml.Node) error {
	for i, f := range fields() {
		if f.key == key {
			return val.Decode(reflect.ValueOf(&s.Profile).Elem().Field(i).Addr().Interface())
		}
	}
	return fmt.Errorf("unknown key %q; known: base, %s", key, strings.Join(Keys(), ", "))
}

func builtin(name string, p Profile) Site {
	s := Site{Name: name, Profile: p}
	v := reflect.ValueOf(p)
	for i, f := range fields() {
		if !v.Field(i).IsZero() {
			s.setOrigin(f.key, "built-in "+name)
		}
	}
	return s
}

// located turns the errors of the YAML library into file:line:column lines.
func located(path string, err error) error {
	if many, ok := errors.AsType[*yaml.LoadErrors](err); ok {
		var errs []error
		for _, e := range many.Errors {
			errs = append(errs, fmt.Errorf("%s:%d:%d: %s", path, e.Mark.Line, e.Mark.Column, e.Message))
		}
		return errors.Join(errs...)
	}
	if one, ok := errors.AsType[*yaml.LoadError](err); ok {
		return fmt.Errorf("%s:%d:%d: %s", path, one.Mark.Line, one.Mark.Column, one.Message)
	}
	return fmt.Errorf("%s: %w", path, err)
}
