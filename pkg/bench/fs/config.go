// Package fs owns the file-system benchmark: its configuration, the choice of
// engine, and the judged result. Its parts own one noun each: datadir the
// directory that is written into, phases the built-in engine, io500 the files
// and the launch of the real IO500. It must not know Slurm, cobra or where the
// run directory came from.
package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"aifbench/pkg/bench/fs/io500"
	"aifbench/pkg/bench/fs/phases"
)

// Engines of the file-system benchmark.
const (
	EngineNative = "native"
	EngineIO500  = "io500"
)

// ErrConfig marks a configuration that cannot be run; its message ends with
// what to change.
var ErrConfig = errors.New("file-system benchmark configuration")

// Config is what a user asks of bench lustre. Zero values take the defaults of
// WithDefaults, which keep a run below 1 GiB and 50,000 files.
type Config struct {
	// DataDir is the directory to write into. It must be empty, absent, or
	// carry the marker that Prepare leaves with the same Nonce.
	DataDir string `json:"data_dir"`
	// Nonce is the nonce of the run that owns DataDir; empty for a directory
	// that nobody prepared.
	Nonce string `json:"nonce,omitempty"`
	// Engine is native or io500.
	Engine string `json:"engine"`
	// Procs is the number of ranks.
	Procs int `json:"procs"`
	// PhaseSeconds is the stonewall of the write phases and of rnd4K. For
	// io500 it is stonewall-time in whole seconds.
	PhaseSeconds float64 `json:"phase_seconds"`
	// MaxBytes bounds what the native engine writes, MaxFiles how many files
	// it creates. The real io500 is bounded by its own ini values.
	MaxBytes int64 `json:"max_bytes"`
	MaxFiles int64 `json:"max_files"`
	// Direct opens the ior-easy files with O_DIRECT (native engine).
	Direct bool `json:"direct"`
	// KeepData leaves the data of the benchmark in place.
	KeepData bool `json:"keep_data"`
	// Seed of the data pattern and of the random offsets; 0 takes one from the run.
	Seed uint32 `json:"seed"`
	// IO500 says how to start the real benchmark.
	IO500 io500.Config `json:"io500"`
}

// WithDefaults returns the configuration with every unset value filled in.
func (c Config) WithDefaults() Config {
	if c.Engine == "" {
		c.Engine = EngineNative
		if c.IO500.Binary != "" {
			c.Engine = EngineIO500
		}
	}
	if c.Procs == 0 {
		c.Procs = min(runtime.GOMAXPROCS(0), 4)
	}
	if c.PhaseSeconds == 0 {
		c.PhaseSeconds = 1.5
		if c.Engine == EngineIO500 {
			c.PhaseSeconds = float64(c.IO500.RequiredStonewall())
		}
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 768 << 20
	}
	if c.MaxFiles == 0 {
		c.MaxFiles = 40_000
	}
	c.IO500 = c.IO500.WithDefaults()
	return c
}

// Validate reports the first value that cannot be run, wrapped in ErrConfig.
// It expects the defaults to be filled in and touches no file.
func (c Config) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, a...))
	}
	switch {
	case c.DataDir == "":
		return bad("data_dir is empty; give the directory to write into with --dir PATH")
	case !filepath.IsAbs(c.DataDir):
		return bad("data_dir %q is not absolute; give the full path", c.DataDir)
	case filepath.Clean(c.DataDir) == "/":
		return bad("data_dir is the root directory; give an empty directory below it")
	case c.Engine != EngineNative && c.Engine != EngineIO500:
		return bad("engine %q is unknown; use native or io500", c.Engine)
	case c.Procs < 1 || c.Procs > 65536:
		return bad("procs %d is outside 1..65536", c.Procs)
	case !(c.PhaseSeconds > 0) || c.PhaseSeconds > 86400:
		return bad("phase_seconds %v is outside 0..86400", c.PhaseSeconds)
	}
	if c.Engine == EngineIO500 {
		if c.PhaseSeconds != float64(int(c.PhaseSeconds)) {
			return bad("phase_seconds %v must be a whole number for io500", c.PhaseSeconds)
		}
		if err := c.IO500.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		return nil
	}
	if err := c.plan().Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// plan turns the configuration into the plan of the built-in engine.
func (c Config) plan() phases.Plan {
	return phases.Plan{
		Ranks: c.Procs, StonewallS: c.PhaseSeconds,
		MaxBytes: c.MaxBytes, MaxFiles: c.MaxFiles,
		Direct: c.Direct, Seed: c.Seed,
	}
}

// Decode reads a configuration strictly: an unknown key or trailing text is an
// error. Defaults are not filled in.
func Decode(text []byte) (Config, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%w: decode: %w", ErrConfig, err)
	}
	if d.More() {
		return Config{}, fmt.Errorf("%w: text after the document", ErrConfig)
	}
	return c, nil
}
