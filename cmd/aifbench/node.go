package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/services/node"
	runs "aifbench/pkg/services/run"
	simchroma "aifbench/pkg/services/sim/chroma"
	simvllm "aifbench/pkg/services/sim/vllm"
	"aifbench/pkg/slurm/local"
)

// newNodeCmd holds what runs inside jobs. Scripts call it; people need not.
func newNodeCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "What runs inside jobs", Hidden: true}
	var dir, out, jobDir string
	runCmd := &cobra.Command{
		Use: "run", Short: "The supervisor: the batch process of a run",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.supervise(cmd.Context(), dir, node.Supervise) },
	}
	agentCmd := &cobra.Command{
		Use: "agent", Short: "The supervisor's hand on another node",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.supervise(cmd.Context(), dir, node.Agent) },
	}
	loadCmd := &cobra.Command{
		Use: "load", Short: "The load generator of a bench run",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runLoad(cmd.Context(), dir) },
	}
	jobCmd := &cobra.Command{
		Use: "job", Short: "One job of the local scheduler",
		RunE: func(cmd *cobra.Command, _ []string) error {
			code, err := local.RunJob(cmd.Context(), jobDir, a.vars)
			if err != nil {
				return err
			}
			return codeError(code)
		},
	}
	jobCmd.Flags().StringVar(&jobDir, "dir", "", "job directory")
	var data string
	lay := &layoutOptions{}
	prepareCmd := &cobra.Command{
		Use: "prepare", Short: "Make and describe a data directory",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.prepareData(cmd.Context(), dir, data, out, lay) },
	}
	prepareCmd.Flags().IntVar(&lay.count, "stripe-count", 0, "stripes")
	prepareCmd.Flags().StringVar(&lay.size, "stripe-size", "", "stripe size")
	prepareCmd.Flags().StringVar(&lay.pool, "pool", "", "pool")
	persistCmd := &cobra.Command{
		Use: "persist", Short: "Make and describe a database directory",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.preparePersist(cmd.Context(), dir, data, out) },
	}
	for _, c := range []*cobra.Command{runCmd, agentCmd, loadCmd, prepareCmd, persistCmd} {
		c.Flags().StringVar(&dir, "run", "", "run directory")
	}
	for _, c := range []*cobra.Command{prepareCmd, persistCmd} {
		c.Flags().StringVar(&data, "dir", "", "directory to make")
		c.Flags().StringVar(&out, "out", "", "where data_dir and extra.json are left")
	}
	cmd.AddCommand(runCmd, agentCmd, loadCmd, jobCmd, prepareCmd, persistCmd, newSimCmd(a))
	return cmd
}

func codeError(code int) error {
	if code == 0 {
		return nil
	}
	return &silent{code}
}

// supervise runs a supervisor or an agent with its log in the run directory.
func (a *app) supervise(ctx context.Context, path string, f func(context.Context, node.Config) (int, error)) error {
	dir, err := runs.Open(a.abs(path))
	if err != nil {
		return err
	}
	plan, err := node.ReadPlan(dir)
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(dir.File(runs.LogsDir, "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open supervisor's log: %w", err)
	}
	defer logFile.Close()
	root := a.getenv("TMPDIR")
	if root == "" {
		root = "/tmp"
	}
	if p, ok := dir.Intent.Params["site.node_local"]; ok {
		if s, _ := p.Value.(string); s != "" {
			root = s
		}
	}
	code, err := f(stopWord(ctx), node.Config{
		Dir: dir, Plan: plan, Start: a.start, Runner: a.runner, Environ: a.vars, Hostname: a.hostname, Now: a.now,
		Log: slog.New(slog.NewTextHandler(logFile, nil)).With("host", a.hostname), Bin: a.self, ScratchRoot: root,
	})
	if err != nil {
		fmt.Fprintf(a.err, "aifbench: %v\n", err)
		if code == 0 {
			code = exitInternal
		}
	}
	return codeError(code)
}

// stopWord translates a signal into the cause the supervisor knows.
func stopWord(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() { cancel(node.ErrStop) })
	return ctx
}

// runLoad is the generator as a process of its own. Its exit code says only
// whether there is a result; the verdict is inside.
func (a *app) runLoad(ctx context.Context, path string) error {
	dir, err := runs.Open(a.abs(path))
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(dir.File(runs.LogsDir, "load.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open generator's log: %w", err)
	}
	defer logFile.Close()
	ctx = a.timeLimit(ctx, dir)
	_, err = a.generate(ctx, dir, slog.New(slog.NewTextHandler(logFile, nil)))
	if err != nil {
		return fmt.Errorf("bench %s: %w", dir.ID(), err)
	}
	return nil
}

// timeLimit tells a signal near the end of the job from a person's: the
// scheduler warns by the same TERM that scancel sends. Schedulers that do not
// tell a job its end leave the limit of the plan and the start of the job.
func (a *app) timeLimit(parent context.Context, dir runs.Dir) context.Context {
	if dir.Intent.JobName == "" {
		return parent
	}
	var end time.Time
	if n, err := strconv.ParseInt(a.getenv("SLURM_JOB_END_TIME"), 10, 64); err == nil {
		end = time.Unix(n, 0)
	} else if plan, err := node.ReadPlan(dir); err == nil && plan.TimeLimitS > 0 {
		end = a.now().Add(time.Duration(plan.TimeLimitS * float64(time.Second)))
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() {
		cause := context.Cause(parent)
		sig, ok := errors.AsType[*signalError](cause)
		near := !end.IsZero() && end.Sub(a.now()) < 4*time.Minute
		if ok && sig.sig == syscall.SIGTERM && near && dir.State().StopRequested.IsZero() {
			cause = load.ErrTimeLimit
		}
		cancel(cause)
	})
	return ctx
}

type layoutOptions struct {
	count      int
	size, pool string
}

// prepareData makes a data directory the run's own, lays it out where lfs
// exists, and describes it.
func (a *app) prepareData(ctx context.Context, runPath, data, out string, lay *layoutOptions) error {
	dir, err := runs.Open(a.abs(runPath))
	if err != nil {
		return err
	}
	if err := runs.MarkOwned(data, dir.Intent.Nonce); err != nil {
		return err
	}
	extra := map[string]string{}
	if lay.count != 0 || lay.size != "" || lay.pool != "" {
		args := []string{"setstripe"}
		if lay.count != 0 {
			args = append(args, "-c", strconv.Itoa(lay.count))
		}
		if lay.size != "" {
			args = append(args, "-S", lay.size)
		}
		if lay.pool != "" {
			args = append(args, "-p", lay.pool)
		}
		var stdout, stderr strings.Builder
		code, err := launcher{a}.Launch(ctx, "lfs", append(args, data), data, nil, &stdout, &stderr)
		switch {
		case err != nil:
			extra["stripe"] = "not set: " + err.Error()
		case code != 0:
			return fmt.Errorf("lay out %s: lfs setstripe ended with %d: %s", data, code, strings.TrimSpace(stderr.String()))
		default:
			extra["stripe"] = strings.Join(args[1:], " ")
		}
	}
	if err := a.describe(ctx, data, extra); err != nil {
		return err
	}
	return leave(out, data, extra)
}

// preparePersist makes a database directory and asks whether its file system
// takes locks, without which SQLite loses data.
func (a *app) preparePersist(ctx context.Context, runPath, data, out string) error {
	dir, err := runs.Open(a.abs(runPath))
	if err != nil {
		return err
	}
	if len(dir.Intent.OwnedPaths) > 0 && dir.Intent.OwnedPaths[0] == data {
		if err := runs.MarkOwned(data, dir.Intent.Nonce); err != nil {
			return err
		}
	} else if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make database directory: %w", err)
	}
	extra := map[string]string{"locks": lockWord(data)}
	if err := a.describe(ctx, data, extra); err != nil {
		return err
	}
	return leave(out, data, extra)
}

// lockWord tries the POSIX lock SQLite uses.
func lockWord(dir string) string {
	path := filepath.Join(dir, ".aifbench-lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "unknown: " + err.Error()
	}
	defer os.Remove(path)
	defer f.Close()
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: 0, Len: 1}); err != nil {
		return "refused: " + err.Error()
	}
	return "granted"
}

func (a *app) describe(ctx context.Context, data string, extra map[string]string) error {
	l, err := fs.Describe(ctx, data, launcher{a})
	if err != nil {
		return fmt.Errorf("describe %s: %w", data, err)
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("describe %s: %w", data, err)
	}
	extra["fs_type"] = l.FSType
	extra["free_bytes"] = strconv.FormatInt(l.FreeBytes, 10)
	extra["layout"] = string(raw)
	return nil
}

// leave writes what the supervisor publishes.
func leave(out, data string, extra map[string]string) error {
	if err := runs.WriteFile(filepath.Join(out, "data_dir"), []byte(data+"\n")); err != nil {
		return err
	}
	return runs.WriteJSON(filepath.Join(out, "extra.json"), extra)
}

// newSimCmd holds the built-in engines.
func newSimCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "sim", Short: "Built-in engines"}
	var port int
	var keyFile string
	v := simvllm.Config{}
	vllm := &cobra.Command{
		Use: "vllm", Short: "Stand-in for vLLM",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v.KeyFile = keyFile
			s, err := simvllm.New(v)
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return err
			}
			return s.Serve(cmd.Context(), ln)
		},
	}
	vllm.Flags().StringVar(&v.Model, "model", "sim", "model name")
	vllm.Flags().DurationVar(&v.TTFT, "ttft", 50*time.Millisecond, "time to first token")
	vllm.Flags().DurationVar(&v.ITL, "itl", 10*time.Millisecond, "time between tokens")
	vllm.Flags().IntVar(&v.Slots, "slots", 32, "requests at once")
	vllm.Flags().IntVar(&v.MaxModelLen, "max-model-len", 4096, "context length")
	c := simchroma.Config{}
	chroma := &cobra.Command{
		Use: "chroma", Short: "Exact store with Chroma's API",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := os.ReadFile(keyFile)
			if err != nil {
				return fmt.Errorf("read key: %w", err)
			}
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return err
			}
			return serveKeyed(cmd.Context(), ln, simchroma.New(c), strings.TrimSpace(string(key)))
		},
	}
	chroma.Flags().StringVar(&c.PersistDir, "persist-dir", "", "snapshot directory")
	for _, s := range []*cobra.Command{vllm, chroma} {
		s.Flags().IntVar(&port, "port", 0, "port on loopback")
		s.Flags().StringVar(&keyFile, "key-file", "", "file with the key every request must carry")
	}
	cmd.AddCommand(vllm, chroma)
	return cmd
}

// serveKeyed puts a key check in front of a handler: loopback is open to every
// user of the node.
func serveKeyed(ctx context.Context, ln net.Listener, h http.Handler, key string) error {
	want := sha256.Sum256([]byte("Bearer " + key))
	srv := &http.Server{ReadHeaderTimeout: 30 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if key == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // nothing of a stand-in is worth draining
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
