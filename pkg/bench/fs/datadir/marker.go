package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MarkerName is the file that says which run a directory belongs to.
const MarkerName = ".aifbench-data.json"

const maxMarker = 4096

// Marker is the content of the marker file.
type Marker struct {
	SchemaVersion int    `json:"schema_version"`
	Nonce         string `json:"nonce"`
	Run           string `json:"run"`
}

// DecodeMarker reads a marker strictly.
func DecodeMarker(text []byte) (Marker, error) {
	var m Marker
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Marker{}, fmt.Errorf("decode marker %s: %w", MarkerName, err)
	}
	if m.SchemaVersion != 1 || m.Nonce == "" {
		return Marker{}, fmt.Errorf("decode marker %s: schema_version %d, nonce %q", MarkerName, m.SchemaVersion, m.Nonce)
	}
	return m, nil
}

func readMarker(at int) (Marker, error) {
	// O_NONBLOCK: a planted fifo must not hang the open.
	fd, err := unix.Openat(at, MarkerName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return Marker{}, fmt.Errorf("open marker: %w", err)
	}
	f := os.NewFile(uintptr(fd), MarkerName)
	text, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err := errors.Join(err, f.Close()); err != nil {
		return Marker{}, fmt.Errorf("read marker: %w", err)
	}
	return DecodeMarker(text)
}

// writeMarker makes the marker under its final name at once: O_EXCL decides
// between two runs that find the same empty directory.
func writeMarker(at int, nonce, run string) error {
	text, err := json.Marshal(Marker{SchemaVersion: 1, Nonce: nonce, Run: run})
	if err != nil {
		return fmt.Errorf("encode marker: %w", err)
	}
	fd, err := unix.Openat(at, MarkerName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("make marker: %w", err)
	}
	f := os.NewFile(uintptr(fd), MarkerName)
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write marker: %w", err), unix.Unlinkat(at, MarkerName, 0))
	}
	return nil
}
