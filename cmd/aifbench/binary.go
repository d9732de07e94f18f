package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	runs "aifbench/pkg/services/run"
)

// binary returns the path under which jobs call this program and its digest:
// a copy kept by content, so that replacing the program while a job waits
// changes nothing.
func (a *app) binary(st runs.Store) (path, sum string, err error) {
	if a.self == "" {
		return "", "", errors.New("find this program: the system does not say where it is")
	}
	h := sha256.New()
	if err := copyTo(h, a.self); err != nil {
		return "", "", fmt.Errorf("read this program: %w", err)
	}
	sum = hex.EncodeToString(h.Sum(nil))
	return filepath.Join(st.BinDir(), sum, runtime.GOARCH, "aifbench"), sum, nil
}

// archOf is the architecture in the path of a kept binary.
func archOf(bin string) string { return filepath.Base(filepath.Dir(bin)) }

// installBinary copies this program to path unless it is there.
func (a *app) installBinary(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep this program for the job: %w", err)
	}
	raw, err := os.ReadFile(a.self)
	if err != nil {
		return fmt.Errorf("keep this program for the job: %w", err)
	}
	if err := runs.WriteExecutable(path, raw); err != nil {
		return fmt.Errorf("keep this program for the job: %w", err)
	}
	return nil
}
