package local

import (
	"bytes"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aifbench/pkg/slurm"
)

// options are the directives a script on one machine can honour.
type options struct {
	output, errput string
	chdir          string
	limit          time.Duration // 0: none
	lead           time.Duration // of the warning before the limit; 0: none
	signal         syscall.Signal
	batchOnly      bool // the warning goes to the script alone
	tasks          int
	tasksPerNode   int
	cpusPerTask    int
	memory         string
}

var shortOptions = map[byte]string{
	'o': "output", 'e': "error", 'D': "chdir", 't': "time", 'N': "nodes", 'n': "ntasks",
	'c': "cpus-per-task", 'J': "job-name", 'd': "dependency", 'a': "array", 'p': "partition", 'A': "account", 'q': "qos",
}

// flags take no value.
var flags = map[string]bool{"exclusive": true, "requeue": true, "no-requeue": true, "hold": true, "parsable": true, "overcommit": true, "oversubscribe": true}

// parseOptions reads the script's directives, then the command line's, which
// win. Options that mean nothing on one machine (partition, account, GPUs) are
// passed over; those that would change what the job is are refused.
func parseOptions(script []byte, extra []string) (options, error) {
	o := options{tasksPerNode: 0, cpusPerTask: 0, output: "slurm-%j.out"}
	words, err := slurm.Directives(script)
	if err != nil {
		return o, err
	}
	words = append(words, extra...)
	for i := 0; i < len(words); i++ {
		name, value, has := strings.Cut(words[i], "=")
		switch {
		case strings.HasPrefix(name, "--") && len(name) > 2:
			name = name[2:]
		case len(words[i]) >= 2 && words[i][0] == '-' && shortOptions[words[i][1]] != "":
			name, value, has = shortOptions[words[i][1]], words[i][2:], len(words[i]) > 2
		default:
			return o, fmt.Errorf("unrecognized option %q", words[i])
		}
		if !has && !flags[name] {
			if i++; i == len(words) {
				return o, fmt.Errorf("option --%s lacks a value", name)
			}
			value = words[i]
		}
		if err := o.set(name, value); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *options) set(name, value string) error {
	var err error
	switch name {
	case "output":
		o.output = value
	case "error":
		o.errput = value
	case "chdir":
		o.chdir = value
	case "time":
		o.limit, err = slurm.ParseLimit(value)
		if o.limit == slurm.Unlimited {
			o.limit = 0
		}
	case "signal":
		err = o.setSignal(value)
	case "nodes":
		if value != "1" && value != "1-1" {
			return fmt.Errorf("%s nodes asked for, and the local scheduler has this machine only", value)
		}
	case "ntasks":
		o.tasks, err = positive(name, value)
	case "ntasks-per-node":
		o.tasksPerNode, err = positive(name, value)
	case "cpus-per-task":
		o.cpusPerTask, err = positive(name, value)
	case "mem":
		o.memory = value
	case "array", "dependency", "begin", "hold":
		return fmt.Errorf("the local scheduler has no --%s", name)
	}
	return err
}

func positive(name, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("--%s=%s: want a positive number", name, value)
	}
	return n, nil
}

var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1,
	"USR2": syscall.SIGUSR2, "QUIT": syscall.SIGQUIT, "CONT": syscall.SIGCONT, "KILL": syscall.SIGKILL,
}

// setSignal reads [B:]SIG[@seconds]; Slurm's default lead is 60 s.
func (o *options) setSignal(value string) error {
	word := value
	if flags, rest, ok := strings.Cut(word, ":"); ok {
		o.batchOnly = strings.Contains(flags, "B")
		word = rest
	}
	word, lead, has := strings.Cut(word, "@")
	o.lead = time.Minute
	if has {
		n, err := strconv.ParseUint(lead, 10, 16)
		if err != nil {
			return fmt.Errorf("--signal=%s: want like B:TERM@120", value)
		}
		o.lead = time.Duration(n) * time.Second
	}
	word = strings.TrimPrefix(strings.ToUpper(word), "SIG")
	if n, err := strconv.Atoi(word); err == nil && n > 0 && n < 65 {
		o.signal = syscall.Signal(n)
		return nil
	}
	sig, ok := signals[word]
	if !ok {
		return fmt.Errorf("--signal=%s: unknown signal", value)
	}
	o.signal = sig
	return nil
}

// interpreter reads the first line: the program and its one argument.
func interpreter(script []byte) ([]string, error) {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	f := strings.Fields(string(rest))
	if !ok || len(f) == 0 || !filepath.IsAbs(f[0]) {
		return nil, fmt.Errorf("this does not look like a batch script: the first line must start with #! and the path of an interpreter")
	}
	if bytes.Contains(script, []byte("\r\n")) {
		return nil, fmt.Errorf("batch script contains DOS line breaks")
	}
	if len(f) > 2 {
		f = []string{f[0], strings.Join(f[1:], " ")} // as the kernel does
	}
	return f, nil
}

// expandPath replaces Slurm's patterns in an output path.
func expandPath(pattern string, j jobFile, node string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i+1 == len(pattern) {
			b.WriteByte(pattern[i])
			continue
		}
		i++
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'j', 'A', 'J':
			b.WriteString(strconv.FormatInt(j.ID, 10))
		case 'x':
			b.WriteString(j.Name)
		case 'N':
			b.WriteString(node)
		case 'n', 't':
			b.WriteByte('0')
		case 'u':
			b.WriteString(userName(j.UID))
		default:
			b.WriteByte('%')
			b.WriteByte(pattern[i])
		}
	}
	return b.String()
}

// userName falls back to the number: without cgo only /etc/passwd is read.
func userName(uid int) string {
	n := strconv.Itoa(uid)
	if u, err := user.LookupId(n); err == nil {
		return u.Username
	}
	return n
}
