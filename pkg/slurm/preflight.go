package slurm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Problem is something about a job that will not work, found before it is
// submitted.
type Problem struct {
	Field   string `json:"field"` // the header field, or "job"
	Fatal   bool   `json:"fatal"` // false: it may wait or work all the same
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

// Partition is one partition as scontrol describes it.
type Partition struct {
	Name     string
	Default  bool
	State    string // UP, DOWN, DRAIN, INACTIVE
	MaxTime  time.Duration
	MaxNodes int // -1 without limit
	Nodes    int
	GPUs     int // of all nodes; -1 when it does not say
}

// ParsePartitions reads scontrol -o show partition.
func ParsePartitions(text []byte) ([]Partition, error) {
	var out []Partition
	for i, rec := range ParseRecords(text) {
		if rec["PartitionName"] == "" {
			return nil, fmt.Errorf("parse partitions: record %d has no name", i+1)
		}
		p := Partition{Name: rec["PartitionName"], Default: rec["Default"] == "YES", State: rec["State"], MaxNodes: -1, GPUs: -1}
		var err error
		if p.MaxTime, err = ParseLimit(rec["MaxTime"]); err != nil {
			return nil, fmt.Errorf("parse partition %s: %w", clip(p.Name), err)
		}
		if n := rec["MaxNodes"]; n != "UNLIMITED" && n != "" {
			if p.MaxNodes, err = strconv.Atoi(n); err != nil {
				return nil, fmt.Errorf("parse partition %s: MaxNodes: %w", clip(p.Name), err)
			}
		}
		if p.Nodes, err = strconv.Atoi(rec["TotalNodes"]); err != nil {
			return nil, fmt.Errorf("parse partition %s: TotalNodes: %w", clip(p.Name), err)
		}
		for _, tres := range strings.Split(rec["TRES"], ",") {
			if n, ok := strings.CutPrefix(tres, "gres/gpu="); ok {
				if p.GPUs, err = strconv.Atoi(n); err != nil {
					return nil, fmt.Errorf("parse partition %s: TRES: %w", clip(p.Name), err)
				}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// Preflight checks a header against the partitions, which finds what sbatch
// accepts and then lets pend for ever, and then asks sbatch --test-only, which
// finds account, QOS and resources (and uses up a job id). The error is
// non-nil when Slurm could not be asked.
func (c *Client) Preflight(ctx context.Context, h Header) ([]Problem, error) {
	options, err := h.Options()
	if err != nil {
		return []Problem{{Field: "header", Fatal: true, Message: err.Error()}}, nil
	}
	out, err := c.run(ctx, "scontrol", "-o", "show", "partition")
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	parts, err := ParsePartitions(out.Stdout)
	if err != nil {
		return nil, err
	}
	problems := checkPartitions(h, parts)
	args := append([]string{"--test-only", "--wrap=true"}, options...)
	_, err = c.exec(ctx, c.submit, "", "sbatch", args...)
	ce, exited := errors.AsType[*CommandError](err)
	switch {
	case err == nil:
	case exited && ce.kind == nil:
		why := strings.TrimSpace(strings.TrimPrefix(ce.Stderr, "allocation failure:"))
		problems = append(problems, Problem{Field: "job", Fatal: true, Message: why, Advice: adviceFor(ce.Stderr)})
	default:
		return problems, fmt.Errorf("test submission: %w", err)
	}
	return problems, nil
}

// checkPartitions judges the header against each partition it names, or the
// default one. A list is served by any of its partitions, so only what holds
// for all of them is fatal.
func checkPartitions(h Header, parts []Partition) []Problem {
	want := strings.Split(h.Partition, ",")
	var problems []Problem
	usable := 0
	for _, name := range want {
		p, ok := findPartition(parts, name)
		if !ok {
			message := fmt.Sprintf("partition %q does not exist", clip(name))
			if name == "" {
				message = "no partition given and the cluster has no default"
			}
			problems = append(problems, Problem{Field: "partition", Fatal: true, Message: message, Advice: "name one of: " + partitionNames(parts)})
			continue
		}
		found := p.check(h)
		fatal := false
		for _, f := range found {
			fatal = fatal || f.Fatal
		}
		if !fatal {
			usable++
		}
		problems = append(problems, found...)
	}
	if usable > 0 {
		for i := range problems {
			problems[i].Fatal = false
		}
	}
	return problems
}

func findPartition(parts []Partition, name string) (Partition, bool) {
	for _, p := range parts {
		if p.Name == name || name == "" && p.Default {
			return p, true
		}
	}
	return Partition{}, false
}

func partitionNames(parts []Partition) string {
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return clip(strings.Join(names, ", "))
}

func (p Partition) check(h Header) []Problem {
	var problems []Problem
	if p.State != "UP" {
		problems = append(problems, Problem{Field: "partition", Message: fmt.Sprintf("partition %s is %s: the job waits until it is up", p.Name, p.State)})
	}
	// Slurm rounds a limit up to whole minutes before it compares.
	if limit := (h.Time + time.Minute - 1).Truncate(time.Minute); p.MaxTime != Unlimited && limit > p.MaxTime {
		problems = append(problems, Problem{
			Field: "time", Fatal: true, Advice: "ask for at most " + FormatLimit(p.MaxTime),
			Message: fmt.Sprintf("%s is over the limit %s of partition %s: the job would pend for ever", FormatLimit(h.Time), FormatLimit(p.MaxTime), p.Name),
		})
	}
	most := p.Nodes
	if p.MaxNodes >= 0 {
		most = min(most, p.MaxNodes)
	}
	if h.Nodes > most {
		problems = append(problems, Problem{
			Field: "nodes", Fatal: true, Advice: fmt.Sprintf("ask for at most %d", most),
			Message: fmt.Sprintf("%d nodes are more than partition %s gives: the job would pend for ever", h.Nodes, p.Name),
		})
	}
	if h.GPUs > 0 && h.GPUStyle != GPUNone && p.GPUs == -1 {
		problems = append(problems, Problem{Field: "gpus", Message: fmt.Sprintf("partition %s lists no GPUs", p.Name)})
	}
	return problems
}
