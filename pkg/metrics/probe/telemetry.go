package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

// TelemetryVersion is the version of telemetry/<host>.jsonl.
const TelemetryVersion = 1

// line is one line of the file. A line with Series names the columns of the
// lines that follow it; the others carry a time and one value a column, null
// where the series was absent. Names once instead of on every line keep a day
// of a node in tens of megabytes.
type line struct {
	SchemaVersion int        `json:"schema_version,omitempty"`
	Series        []string   `json:"series,omitempty"`
	T             float64    `json:"t,omitempty"` // Unix time in seconds
	V             []*float64 `json:"v,omitempty"`
	Missing       []Missing  `json:"missing,omitempty"` // only when it changed
}

// Telemetry appends samples to one file. One goroutine uses it.
type Telemetry struct {
	f       *os.File
	cols    []string
	missing []Missing
	synced  time.Time
	every   time.Duration
}

// telemetrySync is how much may be lost when the node dies: a sync a sample
// would load a shared file system for nothing.
const telemetrySync = 30 * time.Second

// CreateTelemetry opens telemetry/<host>.jsonl under dir for appending. A
// torn last line of an earlier writer is ended first.
func CreateTelemetry(dir, host string) (*Telemetry, error) {
	path := filepath.Join(dir, fileWord(host)+".jsonl")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open telemetry: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		var last [1]byte
		if _, err = f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
			_, err = f.Write([]byte("\n"))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open telemetry: %w", err), f.Close())
	}
	return &Telemetry{f: f, every: telemetrySync}, nil
}

// Append writes one sample by one write call.
func (t *Telemetry) Append(s Sample) error {
	values := make(map[string]float64, len(s.Values))
	fresh := false
	for _, v := range s.Values {
		k := v.Key()
		values[k] = v.V
		if !slices.Contains(t.cols, k) {
			fresh = true
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if fresh || t.cols == nil {
		cols := append([]string{}, t.cols...)
		for _, v := range s.Values {
			if k := v.Key(); !slices.Contains(cols, k) {
				cols = append(cols, k)
			}
		}
		t.cols = cols
		if err := enc.Encode(line{SchemaVersion: TelemetryVersion, Series: cols}); err != nil {
			return fmt.Errorf("append telemetry: %w", err)
		}
	}
	row := line{T: float64(s.T.UnixMilli()) / 1000, V: make([]*float64, len(t.cols))}
	for i, k := range t.cols {
		if v, ok := values[k]; ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
			row.V[i] = &v
		}
	}
	if !slices.Equal(t.missing, s.Missing) {
		t.missing = slices.Clone(s.Missing)
		row.Missing = t.missing
	}
	if err := enc.Encode(row); err != nil {
		return fmt.Errorf("append telemetry: %w", err)
	}
	if _, err := t.f.Write(buf.Bytes()); err != nil {
		t.cols = nil // the head line may be torn: write it again
		return fmt.Errorf("append telemetry: %w", err)
	}
	if s.T.Sub(t.synced) >= t.every {
		t.synced = s.T
		return t.Sync()
	}
	return nil
}

// Sync makes what was appended durable.
func (t *Telemetry) Sync() error {
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("sync telemetry: %w", err)
	}
	return nil
}

// Close syncs and closes the file.
func (t *Telemetry) Close() error { return errors.Join(t.Sync(), t.f.Close()) }

// Point is one value of a series.
type Point struct {
	T time.Time
	V float64
}

// Series is one series of one node in order of time.
type Series struct {
	Node   string // the file's name: the host
	Key    string // name{label="value"}
	Points []Point
}

// ReadTelemetry reads every *.jsonl of a run's telemetry directory. Lines
// that cannot be read are problems beside the series; a torn last line is not
// one, because a file that is being written has it. A directory that is not
// there is empty.
func ReadTelemetry(dir string) (series []Series, problems []error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("read telemetry: %w", err)}
	}
	for _, e := range entries {
		host, ok := strings.CutSuffix(e.Name(), ".jsonl")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			problems = append(problems, fmt.Errorf("read telemetry: %w", err))
			continue
		}
		s, bad := ParseTelemetry(host, raw)
		series = append(series, s...)
		problems = append(problems, bad...)
	}
	return series, problems
}

// ParseTelemetry reads the bytes of one telemetry file.
func ParseTelemetry(host string, raw []byte) (series []Series, problems []error) {
	at := map[string]int{}
	var cols []int
	for i, l := range bytes.SplitAfter(raw, []byte("\n")) {
		torn := !bytes.HasSuffix(l, []byte("\n"))
		if len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		var row line
		if err := json.Unmarshal(l, &row); err != nil {
			if !torn {
				problems = append(problems, fmt.Errorf("parse telemetry of %s: line %d: %w", host, i+1, err))
			}
			continue
		}
		if row.Series != nil {
			if row.SchemaVersion != TelemetryVersion {
				problems = append(problems, fmt.Errorf("parse telemetry of %s: line %d: schema_version %d, this program reads %d", host, i+1, row.SchemaVersion, TelemetryVersion))
				cols = nil
				continue
			}
			cols = make([]int, len(row.Series))
			for k, name := range row.Series {
				j, ok := at[name]
				if !ok {
					j = len(series)
					at[name] = j
					series = append(series, Series{Node: host, Key: name})
				}
				cols[k] = j
			}
			continue
		}
		if len(row.V) != len(cols) {
			problems = append(problems, fmt.Errorf("parse telemetry of %s: line %d: %d values for %d series", host, i+1, len(row.V), len(cols)))
			continue
		}
		if !(row.T >= 0 && row.T < 1e11) {
			problems = append(problems, fmt.Errorf("parse telemetry of %s: line %d: %v is not a time", host, i+1, row.T))
			continue
		}
		when := time.UnixMilli(int64(math.Round(row.T * 1000))).UTC()
		for k, v := range row.V {
			if v != nil {
				series[cols[k]].Points = append(series[cols[k]].Points, Point{T: when, V: *v})
			}
		}
	}
	for i := range series {
		p := series[i].Points
		sort.SliceStable(p, func(a, b int) bool { return p[a].T.Before(p[b].T) })
	}
	return series, problems
}

// fileWord makes a host name safe as a file name.
func fileWord(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, s)
}
