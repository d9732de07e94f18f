package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func newRun(t *testing.T) (Store, Dir) {
	t.Helper()
	s := Store{Home: t.TempDir()}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d, err := s.Create(Intent{ID: NewID("vllm", now), Verb: "start", Service: "vllm", Nonce: "00c0ffee", Created: now})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func TestCreateMakesPrivateDirectory(t *testing.T) {
	t.Parallel()
	s, d := newRun(t)
	if _, err := s.Create(d.Intent); !errors.Is(err, os.ErrExist) {
		t.Fatalf("second create of one id: got %v, want os.ErrExist", err)
	}
	for path, want := range map[string]os.FileMode{d.Path: 0o700, d.File(KeyFile): 0o600, d.File(IntentFile): 0o600, d.File(JournalDir): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %o, want %o", filepath.Base(path), got, want)
		}
	}
	again, err := Open(d.Path)
	if err != nil || again.Intent.Nonce != "00c0ffee" {
		t.Fatalf("open: %+v, %v", again.Intent, err)
	}
	if k, err := d.Key(); err != nil || len(k) != 64 {
		t.Fatalf("key %q, %v", k, err)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, d := newRun(t)
	good, err := os.ReadFile(d.File(IntentFile))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(good), d.ID(), "vllm-20260102-030405-zzzz", 1)
	for name, content := range map[string]string{
		"empty":     "",
		"truncated": string(good[:len(good)/2]),
		"other run": other,
		"future":    strings.Replace(string(good), `"schema_version": 1`, `"schema_version": 99`, 1),
	} {
		if err := os.WriteFile(d.File(IntentFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d.Path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	if err := os.Remove(d.File(IntentFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.Path); !errors.Is(err, ErrDamaged) {
		t.Errorf("no intent: got %v, want ErrDamaged", err)
	}
	if _, err := Open(d.Path + "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no directory: got %v, want ErrNotFound", err)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	for _, id := range []string{"vllm-20260101-000000-aaaa", "vllm-20260102-000000-aabb", "vllm-bench-20260103-000000-aaaa", "chroma-20251231-000000-aaaa"} {
		if _, err := s.Create(Intent{ID: id, Nonce: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		ref, want string
		err       error
	}{
		{ref: "vllm", want: "vllm-20260102-000000-aabb"},
		{ref: "vllm-bench", want: "vllm-bench-20260103-000000-aaaa"},
		{ref: "chroma-2025", want: "chroma-20251231-000000-aaaa"},
		{ref: "vllm-20260101", want: "vllm-20260101-000000-aaaa"},
		{ref: "vllm-2026", err: ErrAmbiguous},
		{ref: "lustre", err: ErrNotFound},
		{ref: "", err: ErrNotFound},
		{ref: "../../etc", err: ErrNotFound},
		{ref: filepath.Join(s.RunsDir(), "chroma-20251231-000000-aaaa"), want: "chroma-20251231-000000-aaaa"},
	} {
		d, err := s.Resolve(c.ref)
		if !errors.Is(err, c.err) || (c.err == nil && d.ID() != c.want) {
			t.Errorf("resolve %q: got %q, %v; want %q, %v", c.ref, d.ID(), err, c.want, c.err)
		}
	}
}

func TestJournalFoldsInAnyOrder(t *testing.T) {
	t.Parallel()
	_, d := newRun(t)
	t0 := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	code := 9
	// Written out of order on purpose: the fold sorts by time.
	for _, e := range []struct {
		at time.Duration
		ev Event
	}{
		{5 * time.Second, Event{Kind: EventEnded, State: "FAILED", Cause: "out_of_memory", ExitCode: &code}},
		{1 * time.Second, Event{Kind: EventDoubtful, Message: "timed out"}},
		{2 * time.Second, Event{Kind: EventSubmitted, JobID: "4711"}},
		{0, Event{Kind: EventIntent}},
		{3 * time.Second, Event{Kind: EventObserved, State: "RUNNING", Node: "mel0001"}},
	} {
		if err := d.Append(t0.Add(e.at), e.ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.File(JournalDir, "99999999999999999999-x-1-1-observed.json"), []byte(`{"kind":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := d.State()
	if s.JobID != "4711" || s.Doubtful || !s.Ended || s.Cause != "out_of_memory" || s.Node != "mel0001" || *s.ExitCode != 9 || s.Live() {
		t.Errorf("state %+v", s)
	}
	if len(s.Problems) != 1 {
		t.Errorf("problems %v, want the one truncated file", s.Problems)
	}
}

func TestOneOfTwentyClaims(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won, lost := 0, 0
	for i := range 20 {
		wg.Go(func() {
			_, err := s.TakeClaim("lab-vllm-abc", NewID("vllm", time.Unix(int64(i), 0)), time.Now())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, ErrClaimed):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 19 {
		t.Errorf("won %d lost %d", won, lost)
	}
	_, err := s.TakeClaim("lab-vllm-abc", "me", time.Now())
	held, ok := errors.AsType[*ClaimedError](err)
	if !ok || held.Holder.Run == "" {
		t.Fatalf("got %v, want a holder", err)
	}
	if err := s.BreakClaim("lab-vllm-abc", "somebody else"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeClaim("lab-vllm-abc", "me", time.Now()); !errors.Is(err, ErrClaimed) {
		t.Error("a claim was broken by one who named another holder")
	}
	if err := s.BreakClaim("lab-vllm-abc", held.Holder.Run); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeClaim("lab-vllm-abc", "me", time.Now()); err != nil {
		t.Errorf("after the break: %v", err)
	}
}

func TestRemoveOwned(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.MkdirAll(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "data")
	if err := MarkOwned(dir, "00c0ffee"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "planted")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveOwned(dir, "deadbeef"); !errors.Is(err, ErrNotOwned) {
		t.Errorf("other nonce: %v", err)
	}
	if err := RemoveOwned(outside, "00c0ffee"); !errors.Is(err, ErrNotOwned) {
		t.Errorf("no marker: %v", err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := RemoveOwned(link, "00c0ffee"); !errors.Is(err, ErrNotOwned) {
		t.Errorf("link to an owned directory: %v", err)
	}
	if err := RemoveOwned(dir, "00c0ffee"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a planted link was followed: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory still there: %v", err)
	}
	if err := RemoveOwned(dir, "00c0ffee"); err != nil {
		t.Errorf("second removal: %v", err)
	}
	if err := MarkOwned(outside, "00c0ffee"); !errors.Is(err, ErrNotOwned) {
		t.Errorf("marking a directory with content: %v", err)
	}
}

func TestRequestsAreAnsweredOnce(t *testing.T) {
	t.Parallel()
	_, d := newRun(t)
	if err := d.Ask(Request{ID: "r1", Kind: RequestFlush}); err != nil {
		t.Fatal(err)
	}
	if err := d.Ask(Request{ID: "r1", Kind: RequestFlush}); !errors.Is(err, os.ErrExist) {
		t.Errorf("same id twice: %v", err)
	}
	if rs, bad := d.Requests(); len(rs) != 1 || len(bad) != 0 {
		t.Fatalf("requests %v %v", rs, bad)
	}
	if err := d.Reply(Answer{ID: "r1", State: AnswerDone}); err != nil {
		t.Fatal(err)
	}
	if rs, _ := d.Requests(); len(rs) != 0 {
		t.Errorf("answered request still open: %v", rs)
	}
}

func TestEndpointOfAnotherRunIsRefused(t *testing.T) {
	t.Parallel()
	_, d := newRun(t)
	if _, err := d.ReadEndpoint(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no endpoint: %v", err)
	}
	if err := WriteJSON(d.File(EndpointFile), Endpoint{Nonce: "another", LocalURL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadEndpoint(); !errors.Is(err, ErrDamaged) {
		t.Errorf("foreign endpoint: %v", err)
	}
}

func TestHashIgnoresOrigin(t *testing.T) {
	t.Parallel()
	a := map[string]Param{"model": {Value: "m", Origin: "flag"}, "nodes": {Value: 1, Origin: "default"}}
	b := map[string]Param{"nodes": {Value: 1, Origin: "file"}, "model": {Value: "m", Origin: "default"}}
	if HashParams("vllm", "sim", "s", a) != HashParams("vllm", "sim", "s", b) {
		t.Error("origin changed the hash")
	}
	b["nodes"] = Param{Value: 2}
	if HashParams("vllm", "sim", "s", a) == HashParams("vllm", "sim", "s", b) {
		t.Error("value did not change the hash")
	}
}

func FuzzIntent(f *testing.F) {
	f.Add([]byte(`{"schema_version":1,"id":"vllm-20260101-000000-aaaa"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := filepath.Join(t.TempDir(), "vllm-20260101-000000-aaaa")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, IntentFile), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir)
		if err == nil && d.ID() != "vllm-20260101-000000-aaaa" {
			t.Fatalf("opened %s as %s", dir, d.ID())
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("untyped error %v for %s", err, json.RawMessage(raw))
		}
	})
}

// What many shells ask of many runs at once must be what each run says.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	st := Store{Home: t.TempDir()}
	zero := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids []string
	var want []bool
	for i := range 50 {
		now := zero.Add(time.Duration(i) * time.Second)
		d, err := st.Create(Intent{ID: NewID("vllm", now), Verb: "start", Service: "vllm", Nonce: NewNonce(), Created: now, Params: map[string]Param{"model": {Value: "m", Origin: "flag"}}})
		if err != nil {
			t.Fatal(err)
		}
		// Neither half closes a run: one asked to end may run on, and one that
		// ended unasked is news.
		for bit, kind := range []string{EventStopRequested, EventEnded} {
			if i&(1<<bit) != 0 {
				if err := d.Append(now, Event{Kind: kind}); err != nil {
					t.Fatal(err)
				}
			}
		}
		ids, want = append(ids, d.ID()), append(want, i&3 == 3)
	}
	if err := os.Mkdir(filepath.Join(st.RunsDir(), "vllm-20260102-030410-aaaa"), 0o700); err != nil {
		t.Fatal(err)
	}
	dirs, bad, err := st.List()
	if err != nil || len(bad) != 1 || bad[0].ID != "vllm-20260102-030410-aaaa" {
		t.Fatalf("damaged %v, %v", bad, err)
	}
	var got []string
	for _, d := range dirs {
		got = append(got, d.ID())
	}
	if !slices.Equal(got, ids) {
		t.Errorf("runs are not in the order of time: %v", got)
	}
	brief, bad, err := st.ListBrief()
	if err != nil || len(bad) != 1 || len(brief) != len(dirs) {
		t.Fatalf("brief: %d runs, damaged %v, %v", len(brief), bad, err)
	}
	for i, d := range brief {
		if whole := dirs[i]; len(whole.Intent.Params) == 0 || d.Intent.Params != nil {
			t.Errorf("parameters of %s: whole %v, brief %v", whole.ID(), whole.Intent.Params, d.Intent.Params)
		} else if whole.Intent.Params = nil; !reflect.DeepEqual(d, whole) {
			t.Errorf("brief %+v\nwhole %+v", d, whole)
		}
	}
	if closed := Closed(dirs); !slices.Equal(closed, want) {
		t.Errorf("closed: %v", closed)
	}
	for i, s := range States(dirs) {
		if s.Ended != (i&2 != 0) || s.StopRequested.IsZero() != (i&1 == 0) {
			t.Errorf("state of run %d: %+v", i, s)
		}
	}
}
