package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// ManifestName is the member that lists all others; it is the first one.
const ManifestName = "MANIFEST.json"

// SchemaVersion is the version of the manifest.
const SchemaVersion = 1

// Meta is what the caller says about an archive.
type Meta struct {
	// ToolVersion is the version of aifbench that wrote it.
	ToolVersion string
	// Run is the id of the run, Service its service; both may be empty.
	Run, Service string
	// Created is an RFC 3339 stamp; empty keeps equal contents equal bytes.
	Created string
}

// Manifest is the document MANIFEST.json.
type Manifest struct {
	SchemaVersion int     `json:"schema_version"`
	Tool          string  `json:"tool"`
	ToolVersion   string  `json:"tool_version"`
	Run           string  `json:"run,omitempty"`
	Service       string  `json:"service,omitempty"`
	Created       string  `json:"created,omitempty"`
	Members       []Entry `json:"members"`
	// Excluded counts the files that were left out as secrets.
	Excluded int `json:"excluded_count"`
}

// Entry is one member of the archive.
type Entry struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"size_bytes"`
	Mode      string `json:"mode"`
	SHA256    string `json:"sha256"`
}

// maxManifest caps the manifest of a foreign archive.
const maxManifest = 16 << 20

func (m *Manifest) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return buf.Bytes(), nil
}

// DecodeManifest reads a manifest strictly: unknown fields, unsafe or repeated
// names, impossible sizes, modes and hashes are errors.
func DecodeManifest(data []byte) (*Manifest, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var m Manifest
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode manifest: more than one document")
	}
	if m.SchemaVersion != SchemaVersion {
		return nil, fmt.Errorf("decode manifest: schema version %d, this aifbench reads %d", m.SchemaVersion, SchemaVersion)
	}
	seen := make(map[string]bool, len(m.Members))
	for _, e := range m.Members {
		switch {
		case e.Name == ManifestName:
			return nil, errors.New("decode manifest: the manifest lists itself")
		case checkName(e.Name) != nil:
			return nil, fmt.Errorf("decode manifest: %w", checkName(e.Name))
		case seen[e.Name]:
			return nil, fmt.Errorf("decode manifest: member %q twice", e.Name)
		case e.SizeBytes < 0:
			return nil, fmt.Errorf("decode manifest: member %q has size %d", e.Name, e.SizeBytes)
		case len(e.SHA256) != 64 || strings.Trim(e.SHA256, "0123456789abcdef") != "":
			return nil, fmt.Errorf("decode manifest: member %q has no SHA-256", e.Name)
		}
		if _, err := parseMode(e.Mode); err != nil {
			return nil, fmt.Errorf("decode manifest: member %q: %w", e.Name, err)
		}
		seen[e.Name] = true
	}
	return &m, nil
}

func formatMode(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }

// parseMode reads four octal digits of permissions; set-id and sticky bits are
// refused.
func parseMode(s string) (fs.FileMode, error) {
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil || v > 0o777 || len(s) != 4 {
		return 0, fmt.Errorf("impossible mode %q", s)
	}
	return fs.FileMode(v), nil
}

// checkName refuses names that could leave the directory they are unpacked in
// or that differ between systems: absolute, "..", empty or dotted parts,
// backslashes, control characters, invalid UTF-8, overlong.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || !fs.ValidPath(name):
		return fmt.Errorf("unsafe member name %q", name)
	case strings.ContainsAny(name, "\\") || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fmt.Errorf("unsafe character in member name %q", name)
	case len(name) > 1024:
		return fmt.Errorf("member name of %d bytes is too long", len(name))
	}
	return nil
}
