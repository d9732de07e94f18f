package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aifbench/pkg/slurm"
)

const (
	schemaVersion = 1
	jobName       = "job.json"
	statusName    = "status.json"
	endName       = "end.json"
	cancelName    = "cancel.json"
	scriptName    = "job.sbatch"
	nonceVar      = "AIFBENCH_JOB_NONCE"
)

// jobFile is what was submitted; written before anything starts.
type jobFile struct {
	SchemaVersion int       `json:"schema_version"`
	ID            int64     `json:"id"`
	Name          string    `json:"name"`
	Nonce         string    `json:"nonce"`
	UID           int       `json:"uid"`
	Host          string    `json:"host"`
	BootID        string    `json:"boot_id"`
	Submitted     time.Time `json:"submitted"`
	SubmitDir     string    `json:"submit_dir"`
	Options       []string  `json:"options"`
	KillWaitS     float64   `json:"kill_wait_s"`
}

// statusFile says which process supervises the job.
type statusFile struct {
	SchemaVersion int       `json:"schema_version"`
	Nonce         string    `json:"nonce"`
	PID           int       `json:"pid"`
	StartTicks    uint64    `json:"start_ticks"` // since boot, from /proc/PID/stat
	BootID        string    `json:"boot_id"`
	Started       time.Time `json:"started"`
	LimitAt       time.Time `json:"limit_at,omitzero"`
}

// endFile says how the job ended; it is the last thing a supervisor writes.
type endFile struct {
	SchemaVersion int         `json:"schema_version"`
	Nonce         string      `json:"nonce"`
	State         slurm.State `json:"state"`
	Cause         slurm.Cause `json:"cause"`
	ExitCode      int         `json:"exit_code"`
	Signal        int         `json:"signal"`
	CancelledBy   *int        `json:"cancelled_by,omitempty"`
	Message       string      `json:"message,omitempty"`
	Ended         time.Time   `json:"ended"`
}

// cancelFile asks the supervisor to end the job.
type cancelFile struct {
	SchemaVersion int       `json:"schema_version"`
	UID           int       `json:"uid"`
	At            time.Time `json:"at"`
}

// writeFile makes name appear whole or not at all.
func writeFile(dir, name string, data []byte) error { return put(dir, name, data, os.Rename) }

// createFile is writeFile for a file that must not exist yet: of two writers
// one gets fs.ErrExist.
func createFile(dir, name string, data []byte) error { return put(dir, name, data, os.Link) }

func put(dir, name string, data []byte, place func(from, to string) error) error {
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), filepath.Join(dir, name))
	}
	if rmErr := os.Remove(f.Name()); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

func writeJSON(dir, name string, v any) error {
	data, err := encode(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return writeFile(dir, name, data)
}

// readJSON reads one of our own files strictly. A missing file is
// os.ErrNotExist.
func readJSON[T any](dir, name string) (T, error) {
	var v T
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return v, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return v, nil
}
