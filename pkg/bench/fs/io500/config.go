// Package io500 owns the real IO500: its ini file, the files a run leaves
// behind, their judgement, and the command line that starts it. It must not
// know the built-in engine or the run directory.
package io500

import (
	"errors"
	"fmt"
	"strings"
)

// Launchers of the benchmark.
const (
	LauncherSrun   = "srun"
	LauncherMpirun = "mpirun"
	LauncherNone   = "none"
)

// Modes: the rules a run is judged by.
const (
	ModeStandard = "standard" // stonewall 300 s
	ModeSCC      = "scc"      // Student Cluster Competition, stonewall 30 s
)

// Config says how to start the real benchmark and by which rules.
type Config struct {
	// Binary is the io500 executable.
	Binary string `json:"binary"`
	// Launcher is srun, mpirun or none.
	Launcher string `json:"launcher"`
	// Args go between the launcher's own rank count and the binary, for
	// example --mpi=pmix or a container's words.
	Args []string `json:"args"`
	// Mode is standard or scc.
	Mode string `json:"mode"`
	// INI overrides single values, "section.key" to value.
	INI map[string]string `json:"ini"`
}

// WithDefaults fills in what is unset.
func (c Config) WithDefaults() Config {
	if c.Launcher == "" {
		c.Launcher = LauncherSrun
	}
	if c.Mode == "" {
		c.Mode = ModeStandard
	}
	return c
}

// RequiredStonewall is the stonewall in seconds that the rules of the mode ask for.
func (c Config) RequiredStonewall() int {
	if c.Mode == ModeSCC {
		return 30
	}
	return 300
}

// Validate reports the first value that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Binary == "":
		return errors.New("io500.binary is empty; give the path of the io500 executable")
	case c.Launcher != LauncherSrun && c.Launcher != LauncherMpirun && c.Launcher != LauncherNone:
		return fmt.Errorf("io500.launcher %q is unknown; use srun, mpirun or none", c.Launcher)
	case c.Mode != ModeStandard && c.Mode != ModeSCC:
		return fmt.Errorf("io500.mode %q is unknown; use standard or scc", c.Mode)
	}
	for k, v := range c.INI {
		section, key, ok := strings.Cut(k, ".")
		if !ok {
			return fmt.Errorf("io500.ini key %q has no section; write section.key", k)
		}
		if reserved(section, key) {
			return fmt.Errorf("io500.ini key %q is set by the benchmark itself; remove it", k)
		}
		if !knownOption(section, key) {
			return fmt.Errorf("io500.ini key %q is not an option of io500; see io500 --list", k)
		}
		if strings.ContainsAny(v, "#;\n\r") {
			return fmt.Errorf("io500.ini value of %q holds a comment sign or a line end, which io500 would cut; remove it", k)
		}
	}
	return nil
}
