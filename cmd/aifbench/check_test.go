package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	runs "aifbench/pkg/services/run"
)

// BenchmarkCheckAllThousand is `check all` over 1,000 run directories, 980
// ended and 20 without a job, less the start of the process. The limit for the
// whole command is 300 ms; docs/speed.md has the numbers.
func BenchmarkCheckAllThousand(b *testing.B) {
	home := b.TempDir()
	st := runs.Store{Home: home}
	zero := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	params := map[string]runs.Param{}
	for i := range 60 {
		params[fmt.Sprintf("site.parameter_%d", i)] = runs.Param{Value: "some value", Origin: "default"}
	}
	for i := range 1000 {
		now := zero.Add(time.Duration(i) * time.Minute)
		d, err := st.Create(runs.Intent{
			ID: runs.NewID("vllm", now), Verb: "start", Service: "vllm", Engine: "sim", Nonce: runs.NewNonce(), JobName: "aifb", Created: now,
			Site: "local", Scheduler: "local", Params: params, Exposure: "none",
		})
		if err != nil {
			b.Fatal(err)
		}
		kinds := []string{runs.EventIntent, runs.EventSubmitted, runs.EventObserved, runs.EventReady, runs.EventStopRequested, runs.EventJobEnded, runs.EventEnded}
		if i%50 == 49 {
			kinds = kinds[:1]
		}
		for k, kind := range kinds {
			if err := d.Append(now.Add(time.Duration(k)*time.Second), runs.Event{Kind: kind, JobID: "7", State: "COMPLETED"}); err != nil {
				b.Fatal(err)
			}
		}
		if err := d.WriteSentinel(runs.Sentinel{Host: "node1", Phase: runs.SentinelEnded, Complete: true}); err != nil {
			b.Fatal(err)
		}
	}
	env := osEnv()
	env.vars = []string{"AIFBENCH_HOME=" + home, "AIFBENCH_SITE=local", "PATH=/usr/bin:/bin"}
	for b.Loop() {
		var out strings.Builder
		code := run(context.Background(), []string{"check", "all", "-o", "json"}, env, streams{in: strings.NewReader(""), out: &out, err: io.Discard})
		if n := strings.Count(out.String(), `"run":`); code != exitInfra || n != 20 {
			b.Fatalf("exit %d, %d rows", code, n)
		}
	}
}

// A run that was stopped ends the news of an older bad end, read or not read;
// a bad end after it is news again.
func TestCheckBadEndIsNews(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bad  []bool // oldest first: ended badly, else stopped on request
		code int
	}{
		{"stopped only", []bool{false, false}, exitNotFound},
		{"bad, then stopped", []bool{true, false}, exitNotFound},
		{"stopped, then bad", []bool{false, true}, exitBad},
		{"bad, stopped, bad", []bool{true, false, true}, exitBad},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			st := runs.Store{Home: home}
			last := ""
			for i, bad := range c.bad {
				now := time.Date(2026, 1, 2, 3, i, 0, 0, time.UTC)
				d, err := st.Create(runs.Intent{ID: runs.NewID("vllm", now), Verb: "start", Service: "vllm", Nonce: runs.NewNonce(), JobName: "aifb", Created: now, Site: "local", Scheduler: "local"})
				if err != nil {
					t.Fatal(err)
				}
				events := []runs.Event{{Kind: runs.EventIntent}, {Kind: runs.EventSubmitted, JobID: "7"}, {Kind: runs.EventStopRequested}, {Kind: runs.EventEnded, State: "CANCELLED", Cause: "cancelled"}}
				if bad {
					events = append(events[:2], runs.Event{Kind: runs.EventEnded, State: "FAILED", Cause: "engine"})
				}
				for k, e := range events {
					if err := d.Append(now.Add(time.Duration(k)*time.Second), e); err != nil {
						t.Fatal(err)
					}
				}
				last = d.ID()
			}
			env := osEnv()
			env.vars = []string{"AIFBENCH_HOME=" + home, "AIFBENCH_SITE=local", "PATH=/usr/bin:/bin"}
			var out strings.Builder
			code := run(context.Background(), []string{"check", "vllm", "-o", "json"}, env, streams{in: strings.NewReader(""), out: &out, err: io.Discard})
			if code != c.code {
				t.Fatalf("exit %d, want %d: %s", code, c.code, out.String())
			}
			if c.code == exitBad && (strings.Count(out.String(), `"run":`) != 1 || !strings.Contains(out.String(), last)) {
				t.Errorf("the rows are not the last run alone: %s", out.String())
			}
		})
	}
}
