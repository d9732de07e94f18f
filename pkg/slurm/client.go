package slurm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"aifbench/pkg/slurm/proc"
)

// deadlines bound each command. sbatch retries by itself for up to two minutes,
// so a shorter deadline would kill it in flight; squeue takes 20 s to report a
// hung controller, sacct 45 s a hung database.
var deadlines = map[string]time.Duration{
	"sbatch": 150 * time.Second, "squeue": 30 * time.Second, "scontrol": 30 * time.Second,
	"sacct": 60 * time.Second, "scancel": 30 * time.Second, "sinfo": 30 * time.Second,
}

// Config is what a Client needs of the outside.
type Config struct {
	// Runner runs the Slurm commands.
	Runner proc.Runner
	// Env is the caller's environment; the client cleans it.
	Env []string
	// Bin is the directory of the Slurm commands; empty means PATH and then the
	// usual places.
	Bin string
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Client talks to Slurm through its commands. It is safe for concurrent use.
// It remembers since when jobs are absent and what sacct can print; everything
// else a caller must know between two commands is in Ref.
type Client struct {
	runner proc.Runner
	bin    string
	env    []string // for commands that are only read
	submit []string // for sbatch, whose environment becomes the job's
	now    func() time.Time

	mu     sync.Mutex
	fields []string // sacct's, negotiated
	sights map[string]sight
}

// New makes a Client. A nil Runner is a programmer's error.
func New(cfg Config) *Client {
	if cfg.Runner == nil {
		panic("slurm.New: no runner")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Client{
		runner: cfg.Runner, bin: cfg.Bin, now: now,
		env: readEnv(cfg.Env), submit: JobEnv(cfg.Env),
		sights: map[string]sight{},
	}
}

// usualDirs are searched after PATH, which is short under cron.
var usualDirs = []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/slurm/bin", "/usr/local/slurm/bin", "/opt/slurm/current/bin"}

var (
	poison = regexp.MustCompile(`^(SBATCH|SQUEUE|SACCT|SCANCEL|SINFO|SALLOC|SRUN|SCONTROL|SLURM)_`)
	// secret names never go into sbatch's environment: sites store it with the
	// job, where administrators and accounting tools read it.
	secret = regexp.MustCompile(`(?i)(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASS|CREDENTIALS?|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY)($|_)`)
)

// cleanEnv drops what would silently change jobs or hide them, and completes
// PATH. SLURM_CONF stays: it says which cluster.
func cleanEnv(env []string) []string {
	var out []string
	path := ""
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
		case name == "PATH":
			path = value
		case name == "SLURMD_NODENAME", poison.MatchString(name) && name != "SLURM_CONF":
		default:
			out = append(out, e)
		}
	}
	dirs := filepath.SplitList(path)
	for _, d := range usualDirs {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return append(out, "PATH="+strings.Join(dirs, ":"))
}

// readEnv is the environment of commands whose text is parsed.
func readEnv(env []string) []string {
	out := slices.DeleteFunc(cleanEnv(env), func(e string) bool {
		return strings.HasPrefix(e, "TZ=") || strings.HasPrefix(e, "LC_ALL=") || strings.HasPrefix(e, "LANGUAGE=")
	})
	return append(out, "SLURM_TIME_FORMAT=%s", "SLURM_BITSTR_LEN=0", "TZ=UTC", "LC_ALL=C")
}

// JobEnv is the environment of a submission, out of the caller's. It reaches the job under --export=ALL,
// so our own time format and locale stay out, and secrets too.
func JobEnv(env []string) []string {
	return slices.DeleteFunc(cleanEnv(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return secret.MatchString(name)
	})
}

// run runs one Slurm command. A non-zero exit is a *CommandError; a missing
// command is ErrMissing; a deadline passed is ErrAway. The context's own end
// comes back as it is.
func (c *Client) run(ctx context.Context, tool string, args ...string) (proc.Output, error) {
	return c.exec(ctx, c.env, "", tool, args...)
}

func (c *Client) exec(ctx context.Context, env []string, dir, tool string, args ...string) (proc.Output, error) {
	name := tool
	if c.bin != "" {
		name = filepath.Join(c.bin, tool)
	}
	out, err := c.runner.Run(ctx, proc.Cmd{Name: name, Args: args, Dir: dir, Env: env, Deadline: deadlines[tool]})
	switch {
	case err == nil && out.Code == 0:
		return out, nil
	case err == nil:
		ce := &CommandError{Tool: tool, Code: out.Code, Stderr: tidy(out.Stderr)}
		switch {
		case out.Code == 126 || out.Code == 127:
			ce.kind = ErrMissing
		case out.Code > 128 && out.Code < 160, awayText.Match(out.Stderr):
			ce.kind = ErrAway
		}
		return out, ce
	case ctx.Err() != nil:
		return out, fmt.Errorf("%s: %w", tool, context.Cause(ctx))
	case errors.Is(err, proc.ErrNotFound):
		return out, fmt.Errorf("%s: %w: %w", tool, ErrMissing, err)
	case errors.Is(err, context.DeadlineExceeded):
		return out, fmt.Errorf("%s: %w after %s: %w", tool, ErrAway, deadlines[tool], err)
	}
	return out, fmt.Errorf("%s: %w", tool, err)
}

// Ping asks whether the controller answers: the cheapest call there is, 25 ms
// when it is down. The error wraps ErrAway or ErrMissing.
func (c *Client) Ping(ctx context.Context) error {
	out, err := c.run(ctx, "scontrol", "ping")
	if ce, ok := errors.AsType[*CommandError](err); ok && !errors.Is(err, ErrMissing) {
		return fmt.Errorf("ping controller: %w: %w", ErrAway, ce)
	}
	if err != nil {
		return fmt.Errorf("ping controller: %w", err)
	}
	if !strings.Contains(string(out.Stdout), "UP") {
		return fmt.Errorf("ping controller: %w: %s", ErrAway, tidy(out.Stdout))
	}
	return nil
}

// sleep waits for d or for the context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
