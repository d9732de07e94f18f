package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// streams are the three streams of a process.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// environment is everything else of a process that a test may replace.
type environment struct {
	vars      []string
	now       func() time.Time
	runner    proc.Runner
	start     func(proc.StartSpec) (*proc.Process, error)
	self      string // path of this program
	cwd       string
	hostname  string
	uid       int
	transport http.RoundTripper
}

// app is the only door to the outside: what a verb needs of the process.
type app struct {
	streams
	environment

	output     string
	quiet      bool
	verbose    int
	siteName   string
	configPath string
	home       string
	emitted    bool // stdout has its one document
	log        *slog.Logger
}

// osEnv reads the real process.
func osEnv() environment {
	e := environment{vars: os.Environ(), now: time.Now, runner: proc.Exec{}, start: proc.Start, uid: os.Getuid(), transport: http.DefaultTransport}
	if self, err := os.Executable(); err == nil {
		e.self = self
	}
	if cwd, err := os.Getwd(); err == nil {
		e.cwd = cwd
	}
	if host, err := os.Hostname(); err == nil {
		e.hostname = host
	}
	return e
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + e.sig.String() }

// withSignals cancels the context on the first SIGINT or SIGTERM. From then on
// signals act as the system's default has it, so the second one kills. Inside
// a job the second one is expected: the scheduler and the supervisor both
// send it, and only KILL ends a drain there.
func withSignals(inJob bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-ch:
			if !inJob {
				signal.Stop(ch)
			}
			sig, ok := s.(syscall.Signal)
			if !ok {
				sig = syscall.SIGTERM
			}
			cancel(&signalError{sig})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		cancel(nil)
	}
}

// run is the program: it parses args, does what they say and returns the exit
// code. It never exits the process and touches nothing but what it is given.
func run(ctx context.Context, args []string, env environment, s streams) int {
	a := &app{streams: s, environment: env}
	a.setLog()
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if wantsJSON(args) {
		a.output = formatJSON // also when the line could not be parsed up to there
	}
	return a.finish(ctx, err)
}

// wantsJSON finds -o json without parsing the rest of the line.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "-ojson" || arg == "-o=json" || arg == "--output=json":
			return true
		case (arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == formatJSON:
			return true
		}
	}
	return false
}

func (a *app) getenv(name string) string {
	for i := len(a.vars) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(a.vars[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// setLog chooses how much talk goes to stderr.
func (a *app) setLog() {
	level := slog.LevelInfo
	switch {
	case a.quiet:
		level = slog.LevelError
	case a.verbose > 0:
		level = slog.LevelDebug
	}
	a.log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, at slog.Attr) slog.Attr {
		if at.Key == slog.TimeKey {
			return slog.String(slog.TimeKey, at.Value.Time().UTC().Format("15:04:05"))
		}
		return at
	}}))
}

// say writes one line of talk unless the user asked for quiet.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// abs makes a path absolute against the user's working directory.
func (a *app) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(a.cwd, path)
}

// store finds the directory of all runs: --home, AIFBENCH_HOME, the
// configuration file, XDG_DATA_HOME, ~/.local/share.
func (a *app) store() (runs.Store, error) {
	if a.home != "" {
		return runs.Store{Home: a.abs(a.home)}, nil
	}
	if h := a.getenv("AIFBENCH_HOME"); h != "" {
		return runs.Store{Home: a.abs(h)}, nil
	}
	cfg, err := a.config()
	if err != nil {
		return runs.Store{}, err
	}
	if cfg.Home != "" {
		return runs.Store{Home: a.abs(cfg.Home)}, nil
	}
	if d := a.getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return runs.Store{Home: filepath.Join(d, "aifbench")}, nil
	}
	if h := a.userHome(); h != "" {
		return runs.Store{Home: filepath.Join(h, ".local", "share", "aifbench")}, nil
	}
	return runs.Store{}, usage("HOME is not set, so there is no place for runs", "set AIFBENCH_HOME to a directory that the compute nodes see, or add --home DIR")
}

// userHome is $HOME, else what the password file says of the uid: cron and
// containers may leave HOME out.
func (a *app) userHome() string {
	if h := a.getenv("HOME"); filepath.IsAbs(h) {
		return h
	}
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil && filepath.IsAbs(u.HomeDir) && u.HomeDir != "/" {
		return u.HomeDir
	}
	return ""
}

// userName is for the record only; the uid decides nothing here.
func (a *app) userName() string {
	for _, v := range []string{"USER", "LOGNAME"} {
		if u := a.getenv(v); u != "" {
			return u
		}
	}
	return "uid " + strconv.Itoa(a.uid)
}

// serviceContext is what a service's parameters are checked against.
func (a *app) serviceContext(st runs.Store, s siteOf) services.Context {
	return services.Context{
		Home: st.Home, Site: s.Site, Abs: a.abs,
		LookPath: func(name string) (string, error) {
			return proc.LookPath(name, a.getenv("PATH"), "/usr/local/bin", "/usr/bin")
		},
		Stat: func(path string) (fs.FileInfo, error) { return os.Stat(path) },
	}
}
