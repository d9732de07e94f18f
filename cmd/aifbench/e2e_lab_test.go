package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// lab is the real Slurm with a home of runs of its own, so that tests see
// nothing of each other's. Everything is typed by alice on the login node.
type lab struct {
	t      *testing.T
	sh     string // lab.sh
	dir    string // the lab's folder
	bin    string // the program under test
	user   string
	home   string // AIFBENCH_HOME
	config string
	env    []string
	ports  map[string][]string // node: ports that were open for this home
}

// answer is what a command left.
type answer struct {
	out, err string
	code     int
}

// newLab skips loudly where there is no lab. When the test ends everything is
// stopped and nothing may be left of it anywhere.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, sh: os.Getenv("AIFBENCH_LABSH"), dir: os.Getenv("AIFBENCH_LAB"), bin: os.Getenv("AIFBENCH_BIN"), user: "alice"}
	switch {
	case l.sh == "" || l.dir == "" || l.bin == "":
		t.Skip("SKIP-LAB: AIFBENCH_LABSH, AIFBENCH_LAB and AIFBENCH_BIN name no Slurm lab; testdata/lab/lab.sh start makes one")
	case os.Getenv("AIFBENCH_LAB_MODE") != "B":
		t.Skip("SKIP-LAB: the nodes of this lab share one address (mode A); these tests need nodes that are hosts of their own (mode B)")
	}
	l.settle()
	return l
}

// settle makes the home and the configuration, and cleans up at the end.
func (l *lab) settle() {
	t := l.t
	t.Helper()
	l.home = filepath.Join(l.dir, "home", l.user, fmt.Sprintf("e2e-%d", time.Now().UnixNano()))
	l.config = l.home + ".yaml"
	l.ports = map[string][]string{}
	l.env = []string{"AIFBENCH_HOME=" + l.home, "AIFBENCH_CONFIG=" + l.config}
	l.write(l.config, fmt.Sprintf("site: lab\nsites:\n  lab:\n    base: slurm\n    poll_min: 1s\n    time_limit: 15m\n    node_local: %s\n", filepath.Join(l.dir, "nodelocal")))
	t.Cleanup(func() {
		l.note()
		if a := l.ab("stop", "all", "--timeout", "2m"); a.code != 0 {
			t.Errorf("stop all: exit %d\n%s%s", a.code, a.out, a.err)
		}
		l.nothingLeft()
		if t.Failed() {
			t.Logf("the runs stay in %s", l.home)
			return
		}
		if err := errors.Join(os.RemoveAll(l.home), os.Remove(l.config)); err != nil {
			t.Error(err)
		}
	})
}

// write leaves a file of mode 0600 that belongs to the user.
func (l *lab) write(path, text string) {
	l.t.Helper()
	u, err := user.Lookup(l.user)
	if err != nil {
		l.t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.WriteFile(path, []byte(text), 0o600), os.Chown(path, uid, gid)); err != nil {
		l.t.Fatal(err)
	}
}

// labsh runs lab.sh to its end.
func (l *lab) labsh(args ...string) answer {
	l.t.Helper()
	// Cleaning up goes on after the test's own context ended.
	out, err := proc.Exec{}.Run(context.WithoutCancel(l.t.Context()), l.command(args...))
	if err != nil {
		l.t.Fatalf("lab.sh %q: %v\n%s%s", args, err, out.Stdout, out.Stderr)
	}
	return answer{string(out.Stdout), string(out.Stderr), out.Code}
}

func (l *lab) command(args ...string) proc.Cmd {
	return proc.Cmd{Name: "bash", Args: append([]string{l.sh}, args...), Dir: "/", Env: append(os.Environ(), "AIFBENCH_LAB_DIR="+l.dir), Deadline: 6 * time.Minute}
}

// as runs a command as a user on a node.
func (l *lab) as(who, node string, cmd ...string) answer {
	l.t.Helper()
	return l.labsh(append([]string{"as", who, node}, cmd...)...)
}

// words are the arguments of lab.sh that type a line of the program.
func (l *lab) words(args []string) []string {
	return append(append(append([]string{"as", l.user, "login1", "env"}, l.env...), l.bin), args...)
}

// ab types a line of the program.
func (l *lab) ab(args ...string) answer {
	l.t.Helper()
	return l.labsh(l.words(args)...)
}

// must types a line that has to end with that code.
func (l *lab) must(code int, args ...string) answer {
	l.t.Helper()
	began := time.Now()
	a := l.ab(args...)
	if a.code != code {
		l.t.Fatalf("aifbench %q: exit %d, want %d\n%s%s", args, a.code, code, a.out, a.err)
	}
	l.t.Logf("%5.1f s  aifbench %s", time.Since(began).Seconds(), strings.Join(args, " "))
	return a
}

// doc types a line with -o json and decodes the one document on stdout.
func doc[T any](l *lab, code int, args ...string) T {
	l.t.Helper()
	return decode[T](l, l.must(code, append(args, "-o", "json")...).out)
}

func decode[T any](l *lab, text string) T {
	l.t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		l.t.Fatalf("stdout is no JSON document: %v\n%s", err, text)
	}
	if d.More() {
		l.t.Fatalf("more than one document on stdout:\n%s", text)
	}
	return v
}

// labRow is what the tests read of a line of check, list and wait.
type labRow struct {
	Run      string `json:"run"`
	Verb     string `json:"verb"`
	Service  string `json:"service"`
	JobID    string `json:"job_id"`
	State    string `json:"state"`
	Node     string `json:"node"`
	Address  string `json:"address"`
	Ready    bool   `json:"ready"`
	Why      string `json:"why"`
	Exposure string `json:"exposure"`
	Code     int    `json:"code"`
}

type labRows struct {
	Kind string   `json:"kind"`
	Runs []labRow `json:"runs"`
}

// labStart is what the tests read of start's document.
type labStart struct {
	Run      string   `json:"run"`
	JobID    string   `json:"job_id"`
	Dir      string   `json:"dir"`
	Existing bool     `json:"existing"`
	Ready    bool     `json:"ready"`
	State    string   `json:"state"`
	Address  string   `json:"address"`
	Tunnel   []string `json:"tunnel"`
}

// labError is the error document.
type labError struct {
	Error struct {
		Code    int    `json:"code"`
		Layer   string `json:"layer"`
		Message string `json:"message"`
		Advice  string `json:"advice"`
	} `json:"error"`
}

// start starts a service and waits until it is ready.
func (l *lab) start(service string, args ...string) labStart {
	l.t.Helper()
	s := doc[labStart](l, 0, append([]string{"start", service, "--wait", "--timeout", "5m"}, args...)...)
	if !s.Ready || s.JobID == "" {
		l.t.Fatalf("start %s --wait: %+v", service, s)
	}
	l.note()
	return s
}

// opened opens a run directory of this home.
func (l *lab) opened(id string) runs.Dir {
	l.t.Helper()
	d, err := runs.Open(filepath.Join(l.home, "runs", id))
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

func (l *lab) dirs() []runs.Dir {
	l.t.Helper()
	all, damaged, err := runs.Store{Home: l.home}.List()
	if err != nil || len(damaged) > 0 {
		l.t.Fatalf("runs of %s: %v %v", l.home, damaged, err)
	}
	return all
}

// note remembers the ports of what runs now.
func (l *lab) note() {
	l.t.Helper()
	add := func(node, address string) {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return
		}
		if _, port, err := net.SplitHostPort(u.Host); err == nil && !slices.Contains(l.ports[node], port) {
			l.ports[node] = append(l.ports[node], port)
		}
	}
	for _, d := range l.dirs() {
		if ep, err := d.ReadEndpoint(); err == nil {
			add(ep.Node, ep.DoorURL)
			add(ep.Node, ep.LocalURL)
			for _, v := range ep.Extra {
				add(ep.Node, v)
			}
		}
		for _, door := range l.doors(d) {
			add(door.Host, door.URL)
		}
	}
}

// doors are the doors of a run, by host.
func (l *lab) doors(d runs.Dir) map[string]runs.Door {
	l.t.Helper()
	out := map[string]runs.Door{}
	names, err := filepath.Glob(d.File(runs.DoorsDir, "*.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range names {
		var door runs.Door
		if err := runs.ReadJSON(n, &door); err == nil {
			out[door.Host] = door
		}
	}
	return out
}

// temporary are the files that the engines of a run left in its TMPDIR on a
// node: what they leave elsewhere would outlive the run.
func (l *lab) temporary(node string, d runs.Dir) []string {
	l.t.Helper()
	a := l.labsh("in", node, "sh", "-c", `find "$1"/*"$2"*/tmp /tmp/aifb-"$3"-* -mindepth 1 ! -name '.aifbench*' 2>/dev/null`, "_", filepath.Join(l.dir, "nodelocal"), d.ID(), d.Intent.Nonce)
	return strings.Fields(a.out)
}

// listening are the TCP ports open on a node.
func (l *lab) listening(node string) []string {
	l.t.Helper()
	a := l.labsh("in", node, "ss", "-ltnH")
	if a.code != 0 {
		l.t.Fatalf("ss on %s: %s", node, a.err)
	}
	var out []string
	for line := range strings.Lines(a.out) {
		if f := strings.Fields(line); len(f) >= 4 {
			out = append(out, f[3][strings.LastIndexByte(f[3], ':')+1:])
		}
	}
	return out
}

func (l *lab) nodes() []string { return strings.Fields(os.Getenv("AIFBENCH_LAB_NODES")) }

// processes are the command lines of all processes that name this home in
// their arguments or environment. Process ids are the machine's: a lab node is
// no container.
func (l *lab) processes() []string {
	l.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		l.t.Fatal(err)
	}
	var out []string
	for _, p := range found {
		args, err1 := os.ReadFile(filepath.Join(p, "cmdline"))
		env, err2 := os.ReadFile(filepath.Join(p, "environ"))
		if err1 != nil || err2 != nil {
			continue // ended meanwhile
		}
		if bytes.Contains(args, []byte(l.home)) || bytes.Contains(env, []byte(l.home)) {
			out = append(out, filepath.Base(p)+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return out
}

// until waits for something that must come to pass.
func (l *lab) until(limit time.Duration, what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

var jobLine = regexp.MustCompile(`^\d+$`)

// queued are the jobs of alice that the controller knows, by id.
func (l *lab) queued() map[string]string {
	l.t.Helper()
	a := l.labsh("in", "login1", "squeue", "-h", "-u", l.user, "-o", "%i %T %j")
	if a.code != 0 {
		l.t.Fatalf("squeue: %s", a.err)
	}
	out := map[string]string{}
	for line := range strings.Lines(a.out) {
		if id, rest, _ := strings.Cut(strings.TrimSpace(line), " "); jobLine.MatchString(id) {
			out[id] = rest
		}
	}
	return out
}

// nothingLeft looks everywhere for what a stopped run may not leave.
func (l *lab) nothingLeft() {
	t := l.t
	t.Helper()
	queue := l.queued()
	for _, d := range l.dirs() {
		if id := d.State().JobID; id != "" && queue[id] != "" {
			t.Errorf("job %s of %s is in the queue: %s", id, d.ID(), queue[id])
		}
		for _, p := range []string{runs.EndpointFile} {
			if _, err := os.Stat(d.File(p)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s of %s is left: %v", p, d.ID(), err)
			}
		}
		if left := l.doors(d); len(left) > 0 {
			t.Errorf("doors of %s are left: %v", d.ID(), left)
		}
		for _, p := range d.Intent.OwnedPaths {
			if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s owned by %s is left: %v", p, d.ID(), err)
			}
		}
		for _, n := range l.nodes() {
			if a := l.labsh("in", n, "find", filepath.Join(l.dir, "nodelocal"), "/tmp", "/dev/shm", "-maxdepth", "1", "-name", "*"+d.ID()+"*", "-o", "-maxdepth", "1", "-name", "aifb-"+d.Intent.Nonce+"-*"); a.out != "" {
				t.Errorf("left on %s: %s", n, a.out)
			}
		}
	}
	if claims, err := os.ReadDir(filepath.Join(l.home, "claims")); err != nil && !errors.Is(err, fs.ErrNotExist) || len(claims) > 0 {
		t.Errorf("claims are left: %v %v", claims, err)
	}
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if left = l.processes(); len(left) == 0 {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
	}
	for _, node := range slices.Sorted(maps.Keys(l.ports)) {
		open := l.listening(node)
		for _, p := range l.ports[node] {
			if slices.Contains(open, p) {
				t.Errorf("port %s of %s is still open", p, node)
			}
		}
	}
}
