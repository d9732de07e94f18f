package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Store is the directory under which all runs of a user live: $AIFBENCH_HOME.
type Store struct{ Home string }

// RunsDir is where run directories are made.
func (s Store) RunsDir() string { return filepath.Join(s.Home, "runs") }

// BinDir is where copies of the program are kept for jobs that wait.
func (s Store) BinDir() string { return filepath.Join(s.Home, "bin") }

// ClaimsDir is where claims between shells are made.
func (s Store) ClaimsDir() string { return filepath.Join(s.Home, "claims") }

// Create makes the directory of a new run by one atomic mkdir and writes its
// key and intent. The error wraps os.ErrExist when the id is taken.
func (s Store) Create(in Intent) (_ Dir, err error) {
	if !ValidID(in.ID) {
		return Dir{}, fmt.Errorf("create run: %q is not a run id", in.ID)
	}
	in.SchemaVersion = SchemaVersion
	if in.Params == nil {
		in.Params = map[string]Param{}
	}
	if in.OwnedPaths == nil {
		in.OwnedPaths = []string{}
	}
	if err := os.MkdirAll(s.RunsDir(), 0o700); err != nil {
		return Dir{}, fmt.Errorf("create run: %w", err)
	}
	d := Dir{Path: filepath.Join(s.RunsDir(), in.ID), Intent: in}
	if err := os.Mkdir(d.Path, 0o700); err != nil {
		return Dir{}, fmt.Errorf("create run: %w", err)
	}
	// Half a run would be reported as damaged for ever.
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(d.Path))
		}
	}()
	for _, sub := range []string{JournalDir, RequestsDir, SentinelDir, DoorsDir, LogsDir, TelemetryDir} {
		if err := os.Mkdir(d.File(sub), 0o700); err != nil {
			return Dir{}, fmt.Errorf("create run: %w", err)
		}
	}
	if err := WriteFile(d.File(KeyFile), []byte(NewKey()+"\n")); err != nil {
		return Dir{}, fmt.Errorf("create run: %w", err)
	}
	if err := WriteJSON(d.File(IntentFile), in); err != nil {
		return Dir{}, fmt.Errorf("create run: %w", err)
	}
	return d, nil
}

// Damaged is a directory that looks like a run and cannot be read.
type Damaged struct {
	ID  string
	Err error
}

// List returns all runs, oldest first, and the directories that could not be read.
func (s Store) List() ([]Dir, []Damaged, error) { return s.list(Open) }

// ListBrief is List for those who show or judge runs: the intents come without
// their parameters.
func (s Store) ListBrief() ([]Dir, []Damaged, error) { return s.list(openBrief) }

func (s Store) list(open func(path string) (Dir, error)) ([]Dir, []Damaged, error) {
	names, err := s.names()
	if err != nil {
		return nil, nil, err
	}
	opened := make([]Dir, len(names))
	errs := make([]error, len(names))
	atOnce(len(names), func(i int) { opened[i], errs[i] = open(filepath.Join(s.RunsDir(), names[i])) })
	var dirs []Dir
	var bad []Damaged
	for i, err := range errs {
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			bad = append(bad, Damaged{ID: names[i], Err: err})
		default:
			dirs = append(dirs, opened[i])
		}
	}
	return dirs, bad, nil
}

// States folds the journals of many runs, in their order.
func States(dirs []Dir) []State {
	states := make([]State, len(dirs))
	atOnce(len(dirs), func(i int) { states[i] = dirs[i].State() })
	return states
}

// Closed tells of many runs, in their order, which ones a user asked to end
// and that have ended. The names of their journals say so: nothing is read.
func Closed(dirs []Dir) []bool {
	closed := make([]bool, len(dirs))
	atOnce(len(dirs), func(i int) {
		entries, err := os.ReadDir(dirs[i].File(JournalDir))
		if err != nil {
			return // looked at like any other, which says what is wrong
		}
		asked, ended := false, false
		for _, e := range entries {
			asked = asked || strings.HasSuffix(e.Name(), "-"+EventStopRequested+".json")
			ended = ended || strings.HasSuffix(e.Name(), "-"+EventEnded+".json")
		}
		closed[i] = asked && ended
	})
	return closed
}

// readers is how many small files are read at once: on a shared file system
// each costs a round trip, and a user may have a thousand runs.
const readers = 16

// atOnce calls f for 0 to n-1 on several goroutines and returns when all are done.
func atOnce(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, readers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func (s Store) names() ([]string, error) {
	entries, err := os.ReadDir(s.RunsDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && ValidID(e.Name()) {
			names = append(names, e.Name())
		}
	}
	// Ids sort by service first; the stamp decides what is older.
	sort.SliceStable(names, func(i, j int) bool { return stampOf(names[i]) < stampOf(names[j]) })
	return names, nil
}

func stampOf(id string) string {
	if len(id) < 20 {
		return id
	}
	return id[len(id)-20:]
}

// Resolve turns what a user typed into a run: a directory, an id, a unique
// prefix of one, or a service (its latest start). ErrNotFound and ErrAmbiguous
// name the candidates.
func (s Store) Resolve(ref string) (Dir, error) {
	if strings.ContainsRune(ref, os.PathSeparator) {
		abs, err := filepath.Abs(ref)
		if err != nil {
			return Dir{}, fmt.Errorf("resolve run %s: %w", ref, err)
		}
		return Open(abs)
	}
	if ValidID(ref) {
		return Open(filepath.Join(s.RunsDir(), ref))
	}
	names, err := s.names()
	if err != nil {
		return Dir{}, err
	}
	var hits []string
	latest := ""
	for _, n := range names {
		if wordOf(n) == ref {
			latest = n // names are oldest first
		}
		if ref != "" && strings.HasPrefix(n, ref) {
			hits = append(hits, n)
		}
	}
	switch {
	case latest != "":
		return Open(filepath.Join(s.RunsDir(), latest))
	case len(hits) == 1:
		return Open(filepath.Join(s.RunsDir(), hits[0]))
	case len(hits) > 1:
		return Dir{}, fmt.Errorf("resolve run %q: %w: %s", ref, ErrAmbiguous, strings.Join(hits, ", "))
	}
	return Dir{}, fmt.Errorf("resolve run %q: %w", ref, ErrNotFound)
}

// wordOf is the part of an id before its stamp: vllm, vllm-bench.
func wordOf(id string) string {
	if !ValidID(id) {
		return ""
	}
	return id[:len(id)-len("-20060102-150405-abcd")]
}

// Word is the part of the run's id before its stamp.
func (d Dir) Word() string { return wordOf(d.Intent.ID) }

// ServiceOf is the service in an id: vllm of vllm-..., chroma of
// chroma-bench-....
func ServiceOf(id string) string { return strings.TrimSuffix(wordOf(id), "-bench") }
