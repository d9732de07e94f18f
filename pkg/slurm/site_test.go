package slurm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

func TestPreflight(t *testing.T) {
	t.Parallel()
	test := answer{err: string(read(t, "25.11", "sb_test.err"))}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		if tool == "scontrol" {
			return answer{out: string(read(t, "22.05", "part.out"))}
		}
		return test
	}}
	client := slurm.New(slurm.Config{Runner: run})
	for name, tt := range map[string]struct {
		h    slurm.Header
		want string
	}{
		"fine":                {slurm.Header{Partition: "gpu", GPUs: 4, Nodes: 4, Time: 48 * time.Hour}, ""},
		"default partition":   {slurm.Header{Nodes: 2}, ""},
		"no such partition":   {slurm.Header{Partition: "nope"}, "partition!"},
		"down":                {slurm.Header{Partition: "down", Time: time.Minute}, "partition"},
		"too long":            {slurm.Header{Partition: "short", Time: 61 * time.Second}, "time!"},
		"just as long":        {slurm.Header{Partition: "short", Time: 60 * time.Second}, ""},
		"too many nodes":      {slurm.Header{Partition: "cpu", Nodes: 5}, "nodes!"},
		"no GPUs there":       {slurm.Header{Partition: "cpu", GPUs: 1}, "gpus"},
		"a list, one serves":  {slurm.Header{Partition: "short,cpu", Time: time.Hour}, "time"},
		"a list, none serves": {slurm.Header{Partition: "short,nope", Time: time.Hour}, "time! partition!"},
		"a header of our own": {slurm.Header{Mem: "lots"}, "header!"},
	} {
		tt.h.Output = "/x"
		got, err := client.Preflight(t.Context(), tt.h)
		var words []string
		for _, p := range got {
			w := p.Field
			if p.Fatal {
				w += "!"
			}
			words = append(words, w)
		}
		if s := strings.Join(words, " "); s != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, s, err, tt.want)
		}
	}
	test = answer{code: 1, err: "allocation failure: Requested node configuration is not available"}
	got, err := client.Preflight(t.Context(), slurm.Header{Output: "/x"})
	if err != nil || len(got) != 1 || got[0].Field != "job" || got[0].Message != "Requested node configuration is not available" || got[0].Advice == "" {
		t.Errorf("%+v, %v", got, err)
	}
	test = answer{code: 1, err: awayText}
	if _, err := client.Preflight(t.Context(), slurm.Header{Output: "/x"}); !errors.Is(err, slurm.ErrAway) {
		t.Errorf("away: %v", err)
	}
}

func TestCapabilitiesAndPing(t *testing.T) {
	t.Parallel()
	ping := answer{out: "Slurmctld(primary) at login1 is UP\n"}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		switch {
		case tool == "sbatch":
			return answer{out: "slurm-wlm 22.05.8\n"}
		case c.Args[0] == "ping":
			return ping
		}
		return answer{out: string(read(t, "22.05", "config.out"))}
	}}
	client := slurm.New(slurm.Config{Runner: run})
	caps, err := client.Capabilities(t.Context())
	if err != nil || caps.Version != "22.05.8" || caps.MaxArraySize != 1001 {
		t.Errorf("%+v, %v", caps, err)
	}
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	ping = answer{out: "Slurmctld(primary) at login1 is DOWN\n", code: 1}
	if err := client.Ping(t.Context()); !errors.Is(err, slurm.ErrAway) {
		t.Errorf("down: %v", err)
	}
	ping = answer{code: -1, fail: proc.ErrNotFound}
	if err := client.Ping(t.Context()); !errors.Is(err, slurm.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pace  slurm.Pace
		state slurm.State
		age   time.Duration
		n     int
		want  time.Duration
	}{
		{slurm.Pace{}, slurm.Pending, 0, 0, 5 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 1, 10 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 2, 20 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 3, 30 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 1000, 30 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, -1, 5 * time.Second},
		{slurm.Pace{}, slurm.Running, time.Second, 9, 5 * time.Second},
		{slurm.Pace{}, slurm.Running, time.Minute, 9, 30 * time.Second},
		{slurm.Pace{}, slurm.Completing, time.Hour, 9, 5 * time.Second},
		{slurm.Pace{}, "", 0, 0, 5 * time.Second},
		{slurm.Pace{Min: 10 * time.Second}, slurm.Pending, 0, 0, 10 * time.Second},
		{slurm.Pace{Min: 10 * time.Second}, slurm.Pending, 0, 2, 20 * time.Second},
		{slurm.Pace{Min: time.Minute}, slurm.Pending, 0, 3, time.Minute},
		{slurm.Pace{Min: time.Second}, slurm.Pending, 0, 0, time.Second},
		{slurm.Pace{Min: time.Second}, slurm.Pending, 0, 3, 6 * time.Second},
		{slurm.Pace{Min: time.Second, Max: time.Second}, slurm.Pending, 0, 3, time.Second},
	} {
		if got := tt.pace.Interval(tt.state, tt.age, tt.n); got != tt.want {
			t.Errorf("%+v %s %s %d: %s, want %s", tt.pace, tt.state, tt.age, tt.n, got, tt.want)
		}
	}
	if slurm.Interval(slurm.Pending, 0, 1) != 10*time.Second {
		t.Error("the function differs from the zero pace")
	}
	for r, want := range map[float64]time.Duration{0: 10 * time.Second, 0.5: 11 * time.Second, 1: 12 * time.Second, -3: 10 * time.Second, 9: 12 * time.Second} {
		if got := slurm.Jitter(10*time.Second, r); got != want {
			t.Errorf("jitter %g: %s, want %s", r, got, want)
		}
	}
}
