package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	runs "aifbench/pkg/services/run"
)

// TestForeignPathsStay: a run whose JSON names paths that are not provably its
// own is exit 10 and removes nothing.
func TestForeignPathsStay(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const nonce = "00c0ffee"
	precious := d.write("precious/file", "keep", 0o600)
	other := d.write("other/file", "keep", 0o600)
	d.write("other/"+runs.OwnerMarker, "deadbeef\n", 0o600)
	marked := d.write("marked/file", "keep", 0o600)
	d.write("marked/"+runs.OwnerMarker, nonce+"\n", 0o600)
	empty := d.write("emptymark/file", "keep", 0o600)
	d.write("emptymark/"+runs.OwnerMarker, "", 0o600)
	link := filepath.Join(d.dir, "link")
	if err := os.Symlink(filepath.Dir(marked), link); err != nil {
		t.Fatal(err)
	}
	linked := d.write("linked/file", "keep", 0o600)
	if err := os.Symlink(filepath.Join(filepath.Dir(marked), runs.OwnerMarker), filepath.Join(filepath.Dir(linked), runs.OwnerMarker)); err != nil {
		t.Fatal(err)
	}
	paths := []string{filepath.Dir(precious), filepath.Dir(other), link, precious, filepath.Dir(linked), filepath.Dir(empty), d.home, "/", filepath.Join(d.home, "runs", "..", "..", "precious")}
	for i, p := range paths {
		id := fmt.Sprintf("lustre-20260101-00000%d-aaaa", i)
		run := filepath.Join(d.home, "runs", id)
		if err := os.MkdirAll(filepath.Join(run, runs.JournalDir), 0o700); err != nil {
			t.Fatal(err)
		}
		use := nonce
		if p == filepath.Dir(empty) {
			use = ""
		}
		text := fmt.Sprintf(`{"schema_version":1,"id":%q,"verb":"start","service":"lustre","nonce":%q,"job_name":"","created":"2026-01-01T00:00:00Z","scheduler":"local","params":{},"owned_paths":[%q]}`, id, use, p)
		if err := os.WriteFile(filepath.Join(run, runs.IntentFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := d.run("stop", "lustre", "--run", id, "-o", "json")
		if s.code != 10 && s.code != 8 || p != filepath.Dir(empty) && s.code != 10 {
			t.Errorf("%s: exit %d\n%s%s", p, s.code, s.out, s.err)
		}
		for _, f := range []string{precious, other, marked, linked, empty} {
			if raw, err := os.ReadFile(f); err != nil || string(raw) != "keep" {
				t.Fatalf("%s: %s was lost: %v", p, f, err)
			}
		}
		if _, err := os.Lstat(link); err != nil {
			t.Errorf("%s: the link was removed: %v", p, err)
		}
		if err := os.RemoveAll(run); err != nil {
			t.Fatal(err)
		}
	}
}

// stranger runs the program as a user who owns nothing here; where this test
// has no right to be another, it is skipped.
func (d *desk) stranger(t *testing.T, env []string, args ...string) said {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to be another user")
	}
	raw, err := os.ReadFile(lookAifbench(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "aifbench-stranger")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin := filepath.Join(dir, "aifbench")
	if err := os.WriteFile(bin, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir, cmd.Env = "/", env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // judged by its code
	return said{args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func lookAifbench(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("aifbench")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAnotherUsersHome: what may not be read or written is exit 8 with the path.
func TestAnotherUsersHome(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fast()
	env := []string{"PATH=/usr/bin:/bin", "AIFBENCH_HOME=" + d.home, "AIFBENCH_SITE=local"}
	for _, args := range [][]string{{"list"}, {"check", "all"}, {"start", "vllm", "--engine", "sim"}, {"bench", "vllm"}, {"stop", "all"}, {"save", "vllm"}, {"logs", "vllm"}} {
		s := d.stranger(t, env, append(args, "-o", "json")...)
		if s.code != 8 {
			t.Errorf("%v: exit %d\n%s%s", args, s.code, s.out, s.err)
			continue
		}
		if w := only[wrong](t, s); w.Error.Layer != "storage" || !strings.Contains(w.Error.Message, "permission denied") || w.Error.Advice == "" {
			t.Errorf("%v: %+v", args, w)
		}
	}
	asks[labRows](d, 0, "check", "vllm")
}

// TestNoHomeAtAll: without HOME, without an entry in the password file, the
// program says what to set; with AIFBENCH_HOME it needs neither.
func TestNoHomeAtAll(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s := d.stranger(t, []string{"PATH=/usr/bin:/bin", "AIFBENCH_SITE=local"}, "list", "-o", "json")
	if s.code != 2 {
		t.Fatalf("exit %d\n%s%s", s.code, s.out, s.err)
	}
	if w := only[wrong](t, s); !strings.Contains(w.Error.Advice, "AIFBENCH_HOME") {
		t.Errorf("%+v", w)
	}
	if s := d.stranger(t, []string{"AIFBENCH_HOME=/tmp/nothing-here-54321"}, "list", "-o", "json"); s.code != 0 {
		t.Errorf("exit %d\n%s%s", s.code, s.out, s.err)
	}
}

// TestUnwritableTargets: archives and pages that cannot be written are exit 8
// with the path, and leave nothing half.
func TestUnwritableTargets(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fast()
	d.must(0, "bench", "vllm", "--requests", "30", "--output-len", "2")
	file := d.write("file", "x", 0o600)
	for _, target := range []string{"/proc/nothing/a.zip", filepath.Join(file, "a.zip"), "/dev/null/a.zip", "no/such/dir/a.zip"} {
		if w := d.fails(8, "save", "vllm", target); w.Error.Layer != "storage" || !strings.Contains(w.Error.Message, filepath.Base(filepath.Dir(target))) {
			t.Errorf("save %s: %+v", target, w)
		}
		if w := d.fails(8, "report", "vllm-bench", strings.TrimSuffix(target, ".zip")+".html"); w.Error.Layer != "storage" {
			t.Errorf("report %s: %+v", target, w)
		}
	}
	// A directory in the file's place is not replaced, not even by force.
	if err := os.Mkdir(filepath.Join(d.dir, "dir.zip"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.fails(10, "save", "vllm", "dir.zip")
	if w := d.fails(8, "save", "vllm", "dir.zip", "--force"); w.Error.Layer != "storage" || !strings.Contains(w.Error.Advice, "dir.zip") {
		t.Errorf("a directory by force: %+v", w)
	}
	// An existing file is whole after a refusal and after a forced failure.
	old := d.write("old.zip", "precious", 0o600)
	d.fails(10, "save", "vllm", "old.zip")
	if raw, err := os.ReadFile(old); err != nil || string(raw) != "precious" {
		t.Errorf("the old file: %q %v", raw, err)
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "*.tmp*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestFullDisk: a disk that fills up under a live run costs the command that
// needs room, names it, and nothing that was there.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	info, err := os.Stat(lookAifbench(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf(`
set -u
mkdir disk && mount -t tmpfs -o size=%d tmpfs disk || exit 77
export AIFBENCH_HOME=$PWD/disk/home AIFBENCH_SITE=local HOME=$PWD
trap 'rm -f disk/filler; aifbench stop all -q >/dev/null' EXIT
want() { local code=$1 got; shift; "$@" >out 2>err; got=$?; [ $got = $code ] || { echo "$*: exit $got, want $code"; cat out err; exit 1; }; }
want 0 aifbench start vllm --engine sim --sim-ttft 2ms --sim-itl 1ms --wait
want 0 aifbench bench vllm --requests 30 --output-len 2
cat /dev/zero > disk/filler 2>/dev/null
want 8 aifbench start chroma --engine sim -o json
grep -q '"layer": "storage"' out && grep -q 'no space left' out || { echo "start does not name the disk"; cat out err; exit 1; }
want 8 aifbench bench vllm --requests 30 --output-len 2 -o json
grep -q 'no space left' out || { echo "bench does not name the disk"; cat out err; exit 1; }
want 8 aifbench save vllm disk/a.zip
[ ! -e disk/a.zip ] || { echo "half an archive"; exit 1; }
want 0 aifbench check vllm
want 0 aifbench list
want 0 aifbench show vllm
rm disk/filler
want 0 aifbench check all
want 0 aifbench bench vllm --requests 30 --output-len 2
want 0 aifbench wait vllm-bench
want 0 aifbench save vllm a.zip
want 0 aifbench stop all
`, info.Size()+6<<20)
	cmd := exec.Command("unshare", "-m", "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77 || strings.Contains(string(out), "unshare failed") {
		t.Skipf("nothing can be mounted here: %s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPortTaken: an engine that finds its port taken says so and is no defect
// of the program.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	key := d.write("key", "k\n", 0o600)
	for _, engine := range []string{"vllm", "chroma"} {
		w := d.fails(8, "node", "sim", engine, "--port", port, "--key-file", key)
		if !strings.Contains(w.Error.Message, "address already in use") || !w.Error.Retryable {
			t.Errorf("%s: %+v", engine, w)
		}
	}
}
