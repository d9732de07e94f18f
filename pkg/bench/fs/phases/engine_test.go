package phases

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// long is a stonewall no phase of these tests reaches: limits decide.
const long = int64(time.Hour)

// small lays out 117 small files of each kind a rank, 7 transfers of ior-easy
// and 196 of ior-hard.
func small() Plan {
	return Plan{Ranks: 2, StonewallS: 3600, MaxBytes: 48 << 20, MaxFiles: 480, Seed: 1836790912}
}

type world struct {
	dir      string
	engine   *Engine
	begin    map[string]func()
	finish   map[string]func(Outcome)
	outcomes map[string]Outcome
}

func newWorld(t *testing.T, p Plan) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), begin: map[string]func(){}, finish: map[string]func(Outcome){}, outcomes: map[string]Outcome{}}
	f, err := os.Open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	w.engine = New(int(f.Fd()), p, time.Minute, 20*time.Millisecond)
	return w
}

// run runs all phases; the random read, which has no limit, is cut short.
func (w *world) run(t *testing.T, ctx context.Context) {
	t.Helper()
	out, err := w.engine.Run(ctx, Watch{
		Begin: func(_ int, phase string) {
			if phase == RndRead {
				for i := range w.engine.walls {
					w.engine.walls[i] = int64(10 * time.Millisecond)
				}
			}
			if f := w.begin[phase]; f != nil {
				f()
			}
		},
		Finish: func(o Outcome) error {
			if f := w.finish[o.Phase]; f != nil {
				f(o)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range Order() {
		if out[i].Phase != s.Name {
			t.Fatalf("outcome %d is of %s, want %s", i, out[i].Phase, s.Name)
		}
		w.outcomes[s.Name] = out[i]
	}
}

func total(o Outcome, get func(Row) int64) (n int64) {
	for _, r := range o.Rows {
		n += get(r)
	}
	return n
}

func ops(r Row) int64     { return r.Ops }
func moved(r Row) int64   { return r.Bytes }
func corrupt(r Row) int64 { return r.Corrupt }
func failed(r Row) int64  { return r.Failed }

// word is IOR's pattern by its definition in the manual of its source.
func word(rank int, seed, i uint64) uint64 { return uint64(rank)<<32 | (seed + i) }

func TestLayoutCountsAndPattern(t *testing.T) {
	t.Parallel()
	p := small()
	l := p.Limits()
	if l != (Limits{EasyTransfers: 7, HardTransfers: 196, EasyFiles: 117, HardFiles: 117}) {
		t.Fatalf("limits %+v", l)
	}
	w := newWorld(t, p)
	w.finish[MDHardWrite] = func(Outcome) {
		files, sizes := 0, map[int64]int{}
		err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(w.dir, path)
			if rel != "." && !Ours(rel, d.IsDir()) {
				t.Errorf("%s is not in the layout", rel)
			}
			if d.IsDir() {
				return nil
			}
			info, err := d.Info()
			files, sizes[info.Size()] = files+1, sizes[info.Size()]+1
			return err
		})
		if err != nil {
			t.Error(err)
		}
		// 2 ior-easy, 1 ior-hard, 234 empty, 234 of 3901 bytes, the time stamp.
		if files != 472 || sizes[0] != 235 || sizes[3901] != 234 {
			t.Errorf("%d files, sizes %v", files, sizes)
		}
		checkEasy(t, w.dir, p)
		checkHard(t, w.dir, p)
		checkSmall(t, w.dir, p)
	}
	w.run(t, t.Context())
	for phase, want := range map[string]int64{
		EasyWrite: 14, EasyRead: 14, HardWrite: 392, HardRead: 392,
		MDEasyWrite: 234, MDEasyStat: 234, MDEasyDel: 234,
		MDHardWrite: 234, MDHardStat: 234, MDHardRead: 234, MDHardDel: 234,
		Find: 472,
	} {
		o := w.outcomes[phase]
		if got := total(o, ops); got != want || o.Status != Done || total(o, failed) != 0 || total(o, corrupt) != 0 {
			t.Errorf("%s: %d operations, want %d: %s %s, %d failed, %d corrupt", phase, got, want, o.Status, o.Message, total(o, failed), total(o, corrupt))
		}
	}
	for phase, want := range map[string]int64{
		EasyWrite: 14 * 2 << 20, EasyRead: 14 * 2 << 20, HardWrite: 392 * 47008, HardRead: 392 * 47008,
		MDHardWrite: 234 * 3901, MDHardRead: 234 * 3901,
	} {
		if got := total(w.outcomes[phase], moved); got != want {
			t.Errorf("%s moved %d bytes, want %d", phase, got, want)
		}
	}
	if total(w.outcomes[RndRead], ops) == 0 {
		t.Error("no random read")
	}
	// Of the items 0..116 only 101 holds 01, in either rank's files.
	find := w.outcomes[Find]
	if got := total(find, func(r Row) int64 { return r.Matched }); got != 2 || *find.Rows[0].Expected != 2 {
		t.Errorf("find matched %d and expected %d, want 2", got, *find.Rows[0].Expected)
	}
	for _, name := range []string{dirMDEasy + "/" + dirTest + "/" + easyTree(0), dirMDHard + "/" + dirTest + "/" + dirHardTree} {
		if left, err := os.ReadDir(filepath.Join(w.dir, name)); err != nil || len(left) != 0 {
			t.Errorf("%s holds %d files after the deletes, %v", name, len(left), err)
		}
	}
}

func checkEasy(t *testing.T, dir string, p Plan) {
	t.Helper()
	for rank, name := range []string{"ior_file_easy.00000000", "ior_file_easy.00000001"} {
		b, err := os.ReadFile(filepath.Join(dir, "ior-easy", name))
		if err != nil || len(b) != 7*2<<20 {
			t.Errorf("%s has %d bytes, %v", name, len(b), err)
			continue
		}
		for at := 0; at < len(b); at += 8 {
			if got, want := binary.LittleEndian.Uint64(b[at:]), word(rank, uint64(p.Seed), uint64(at%(2<<20)/8)); got != want {
				t.Errorf("%s at %d: %x, want %x", name, at, got, want)
				break
			}
		}
	}
}

func checkHard(t *testing.T, dir string, p Plan) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "ior-hard", "file"))
	if err != nil || len(b) != 392*47008 {
		t.Errorf("ior-hard has %d bytes, %v", len(b), err)
		return
	}
	for at := 0; at < len(b); at += 8 {
		rank := at / 47008 % 2
		if got, want := binary.LittleEndian.Uint64(b[at:]), word(rank, uint64(p.Seed), uint64(at%47008/8)); got != want {
			t.Errorf("ior-hard at %d: %x, want %x", at, got, want)
			return
		}
	}
}

func checkSmall(t *testing.T, dir string, p Plan) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "mdtest-hard", "test-dir.0-0", "mdtest_tree.0", "file.mdtest.1.116"))
	if err != nil || len(b) != 3901 {
		t.Errorf("last small file has %d bytes, %v", len(b), err)
		return
	}
	for i := range 487 {
		if got := binary.LittleEndian.Uint64(b[8*i:]); got != word(1, uint64(p.Seed), uint64(i)) {
			t.Errorf("small file word %d: %x", i, got)
			return
		}
	}
	// 3896..3900 modulo 256 is 56..60.
	if tail := fmt.Sprint(b[3896:]); tail != "[56 57 58 59 60]" {
		t.Errorf("tail %s", tail)
	}
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{0}
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneFlippedBitIsFoundAndLocated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase, file string
		off         int64
	}{
		{EasyRead, "ior-easy/ior_file_easy.00000001", 3<<20 + 4711},
		{HardRead, "ior-hard/file", 5*47008 + 47007},
		{MDHardRead, "mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.0.33", 3900},
	} {
		t.Run(c.phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, small())
			w.begin[c.phase] = func() { flip(t, filepath.Join(w.dir, c.file), c.off) }
			w.run(t, t.Context())
			o := w.outcomes[c.phase]
			if total(o, corrupt) != 1 || o.Status != Done {
				t.Fatalf("%d corrupt, %s %s", total(o, corrupt), o.Status, o.Message)
			}
			where := fmt.Sprintf("%s at offset %d", c.file, c.off)
			found := ""
			for _, r := range o.Rows {
				found += r.Error
			}
			if !strings.Contains(found, where) {
				t.Errorf("error %q does not name %q", found, where)
			}
		})
	}
}

func TestRandomReadVerifies(t *testing.T) {
	t.Parallel()
	p := small()
	p.MaxBytes = 10 << 20 // one transfer a rank: 512 pages
	w := newWorld(t, p)
	w.begin[RndRead] = func() {
		for page := range int64(512) {
			flip(t, filepath.Join(w.dir, "ior-easy/ior_file_easy.00000000"), page*4096+9)
		}
	}
	w.run(t, t.Context())
	rows := w.outcomes[RndRead].Rows
	if rows[0].Corrupt != rows[0].Ops || rows[0].Ops == 0 {
		t.Errorf("rank 0: %d of %d reads corrupt, want all", rows[0].Corrupt, rows[0].Ops)
	}
	if rows[1].Corrupt != 0 {
		t.Errorf("rank 1: %d corrupt, want none", rows[1].Corrupt)
	}
}

func TestWearOutEqualisesRanks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small())
	// Rank 1 hits its stonewall with the first operation of every phase.
	w.engine.walls = []int64{long, 0}
	w.run(t, t.Context())
	for phase, want := range map[string]int64{EasyWrite: 7, MDEasyWrite: 117, HardWrite: 196, MDHardWrite: 117} {
		rows := w.outcomes[phase].Rows
		if rows[0].Ops != want || rows[1].Ops != want {
			t.Errorf("%s: ranks did %d and %d, want %d each", phase, rows[0].Ops, rows[1].Ops, want)
		}
		if rows[0].WallOps != want || rows[1].WallOps != 1 || !rows[0].Capped || rows[1].Capped {
			t.Errorf("%s: at the stonewall %d and %d, want %d and 1; capped %v %v", phase, rows[0].WallOps, rows[1].WallOps, want, rows[0].Capped, rows[1].Capped)
		}
	}
	// Reading phases replay the count that was worn out to.
	if got := total(w.outcomes[HardRead], ops); got != 392 {
		t.Errorf("ior-hard-read did %d, want 392", got)
	}
}

func TestMissingFilesCountAsFailedNeverAsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small())
	gone := func(name string) func() {
		return func() {
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	w.begin[MDEasyStat] = gone("mdtest-easy/test-dir.0-0/mdtest_tree.0.0/file.mdtest.1.5")
	w.begin[MDHardRead] = gone("mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.0.6")
	w.run(t, t.Context())
	for _, phase := range []string{MDEasyStat, MDEasyDel, MDHardRead, MDHardDel} {
		o := w.outcomes[phase]
		if total(o, failed) != 1 || total(o, ops) != 233 {
			t.Errorf("%s: %d failed, %d done, want 1 and 233", phase, total(o, failed), total(o, ops))
		}
	}
}

func TestPlantedLinkIsNotWrittenThrough(t *testing.T) {
	t.Parallel()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for phase, name := range map[string]string{
		EasyWrite:   "ior-easy/ior_file_easy.00000001",
		HardWrite:   "ior-hard/file",
		MDEasyWrite: "mdtest-easy/test-dir.0-0/mdtest_tree.1.0/file.mdtest.0.3",
	} {
		w := newWorld(t, small())
		w.begin[phase] = func() {
			if err := os.Symlink(victim, filepath.Join(w.dir, name)); err != nil {
				t.Error(err)
			}
		}
		w.run(t, t.Context())
		if o := w.outcomes[phase]; o.Status != Failed || !strings.Contains(o.Message, name) {
			t.Errorf("%s: %s %q, want failed at %s", phase, o.Status, o.Message, name)
		}
		if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
			t.Fatalf("%s: the link's target is now %q, %v", phase, text, err)
		}
	}
}

func TestStuckRanksAreLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small())
	w.engine.drain = 10 * time.Millisecond
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// A rank in an uninterruptible call, as on a dead server.
	spec := Spec{Name: EasyWrite, Data: true, work: func(r *rank) error {
		if r.id == 1 {
			cancel()
			<-release
		}
		return nil
	}}
	if err := w.engine.layout(); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.startRanks(); err != nil {
		t.Fatal(err)
	}
	o, err := w.engine.phase(ctx, spec, nil)
	if !errors.Is(err, ErrStuck) || o.Status != Interrupted || len(o.Rows) != 0 {
		t.Errorf("%v, %+v", err, o)
	}
	close(release)
	if err := w.engine.endRanks(); err != nil {
		t.Error(err)
	}
	w.engine.closeDirs()
}

// The calls of the hot loops allocate nothing, so that no collection falls into
// a phase. Not parallel: the measurement counts the whole process.
func TestHotLoopsDoNotAllocate(t *testing.T) {
	w := newWorld(t, small())
	measured := false
	w.begin[MDHardStat] = func() {
		measured = true
		r := w.engine.ranks[0]
		r.begin("measured")
		prefix, item := mdName(0), int64(0)
		got := testing.AllocsPerRun(50, func() {
			start := r.now()
			name := setItem(prefix, item)
			if err := statat(w.engine.mdHard, name, &r.stat); err != nil {
				t.Error(err)
			}
			fd, err := openat(w.engine.mdHard, name, flagsRead, 0)
			if err != nil {
				t.Error(err)
			}
			r.ok(start, 0)
			r.readBlock(fd, r.got[:hardFileSize], r.tail, "x", 0)
			if err := finish(fd, "x", false, nil); err != nil {
				t.Error(err)
			}
			item++
		})
		if got != 0 || r.row.Corrupt != 0 || r.row.Failed != 0 {
			t.Errorf("%v allocations an operation, row %+v", got, r.row)
		}
	}
	w.run(t, t.Context())
	if !measured {
		t.Error("nothing was measured")
	}
}
