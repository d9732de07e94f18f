package slurm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/slurm"
)

func TestParseState(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		state    slurm.State
		terminal bool
		known    bool
	}{
		"COMPLETED":            {slurm.Completed, true, true},
		"CANCELLED by 1001":    {slurm.Cancelled, true, true},
		"CANCELLED":            {slurm.Cancelled, true, true},
		"OUT_OF_MEMORY":        {slurm.OutOfMemory, true, true},
		"NODE_FAIL":            {slurm.NodeFail, true, true},
		"RUNNING":              {slurm.Running, false, true},
		"COMPLETING":           {slurm.Completing, false, true},
		"SPECIAL_EXIT":         {slurm.SpecialExit, false, true},
		"RUNNING+COMPLETING":   {slurm.Completing, false, true},
		"COMPLETED,COMPLETING": {slurm.Completing, false, true},
		"TELEPORTING":          {"TELEPORTING", false, false},
		"":                     {"", false, false},
	} {
		got, by := slurm.ParseState(text)
		if got != want.state || got.Terminal() != want.terminal || got.Known() != want.known {
			t.Errorf("%q: %q terminal %t known %t", text, got, got.Terminal(), got.Known())
		}
		if (text == "CANCELLED by 1001") != (by != nil && *by == 1001) {
			t.Errorf("%q: by %v", text, by)
		}
	}
}

func TestParseReason(t *testing.T) {
	t.Parallel()
	for _, word := range []string{
		"PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "DependencyNeverSatisfied",
		"QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxNodePerJobLimit", "AssocMaxWallDurationPerJobLimit",
		"AssocGrpCPUMinutesLimit", "InvalidAccount", "InvalidQOS", "JobHeldAdmin", "launch failed requeued held",
		"(PartitionTimeLimit)",
	} {
		if got, kind := slurm.ParseReason(word); kind != slurm.ReasonFatal {
			t.Errorf("%q is %q %s, want fatal", word, got, kind)
		}
	}
	for _, word := range []string{
		"Resources", "Priority", "BeginTime", "Dependency", "JobArrayTaskLimit", "QOSMaxJobsPerUserLimit",
		"ReqNodeNotAvail, UnavailableNodes:mel0001", "PartitionDown", "PartitionInactive", "ReservationDeleted",
		"Licenses", "SomethingNew", "JobHeldUser",
	} {
		if got, kind := slurm.ParseReason(word); kind != slurm.ReasonSoft {
			t.Errorf("%q is %q %s, want soft", word, got, kind)
		}
	}
	for _, word := range []string{"", "None", "N/A", "(null)"} {
		if got, kind := slurm.ParseReason(word); got != "" || kind != slurm.ReasonNone {
			t.Errorf("%q is %q %s, want none", word, got, kind)
		}
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]slurm.ID{
		"4747":           {Base: 4747, Het: -1},
		"4747_3":         {Base: 4747, Task: "3", Het: -1},
		"4747_[2-3%2]":   {Base: 4747, Task: "[2-3%2]", Het: -1},
		"4751+1":         {Base: 4751, Het: 1},
		"4747.batch":     {Base: 4747, Het: -1, Step: "batch"},
		"4780+0.batch":   {Base: 4780, Het: 0, Step: "batch"},
		"4747_0.extern":  {Base: 4747, Task: "0", Het: -1, Step: "extern"},
		"5_[1,3,5-7:2]":  {Base: 5, Task: "[1,3,5-7:2]", Het: -1},
		"5_[1,3,5,7...]": {Base: 5, Task: "[1,3,5,7...]", Het: -1},
	} {
		got, err := slurm.ParseID(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "1_", "1_[", "1+", "1 2", "99999999999999999999", "1\n", "1_[" + strings.Repeat("1,", 1000) + "2]"} {
		if got, err := slurm.ParseID(text); err == nil {
			t.Errorf("%q gave %+v", text, got)
		}
	}
}

func TestParseReceipt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"20\n":                      "20/",
		"20;lab\n":                  "20/lab",
		"Welcome to the site!\n7\n": "7/",
		"7\nbye\n":                  "7/",
		"":                          "",
		"Submitted batch job 20\n":  "",
		"0\n":                       "",
		"20;\n":                     "",
	} {
		id, cluster, err := slurm.ParseReceipt([]byte(text))
		got := ""
		if err == nil {
			got = id + "/" + cluster
		}
		if got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestParseSite(t *testing.T) {
	t.Parallel()
	wantVersion := map[string]string{"22.05": "22.05.8", "25.11": "25.11.7"}
	wantCluster := map[string]string{"22.05": "lab", "25.11": "lab25"}
	for _, version := range versions {
		got, err := slurm.ParseVersion(read(t, version, "version.out"))
		if err != nil || got != wantVersion[version] {
			t.Errorf("version %q, %v", got, err)
		}
		caps := slurm.ParseConfig(read(t, version, "config.out"))
		want := slurm.Capabilities{
			Cluster: wantCluster[version], MessageTimeout: 10 * time.Second, MinJobAge: 15 * time.Second, KillWait: 5 * time.Second,
			SlurmdTimeout: 15 * time.Second, MaxArraySize: 1001, JobRequeue: true, EnforcePartLimits: "NO",
			Accounting: true, AccountingStoreJobs: true, ProctrackType: "proctrack/linuxproc",
		}
		if diff := cmp.Diff(want, caps); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
		if caps.Settle() != time.Minute {
			t.Errorf("settle %s", caps.Settle())
		}
		parts, err := slurm.ParsePartitions(read(t, version, "part.out"))
		if err != nil {
			t.Fatal(err)
		}
		wantParts := []slurm.Partition{
			{Name: "gpu", State: "UP", MaxTime: 48 * time.Hour, MaxNodes: -1, Nodes: 4, GPUs: 16},
			{Name: "cpu", Default: true, State: "UP", MaxTime: 48 * time.Hour, MaxNodes: -1, Nodes: 4, GPUs: -1},
			{Name: "short", State: "UP", MaxTime: time.Minute, MaxNodes: -1, Nodes: 4, GPUs: -1},
			{Name: "down", State: "DOWN", MaxTime: 10 * time.Minute, MaxNodes: -1, Nodes: 4, GPUs: -1},
		}
		if diff := cmp.Diff(wantParts, parts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
	for _, text := range []string{"", "slurm", "slurm abc", "sbatch: 22.05"} {
		if got, err := slurm.ParseVersion([]byte(text)); err == nil {
			t.Errorf("version %q from %q", got, text)
		}
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Minute, "1:30": 90 * time.Second, "1:00:00": time.Hour, "2-0": 48 * time.Hour,
		"1-2:30": 26*time.Hour + 30*time.Minute, "2-00:00:00": 48 * time.Hour, "1-00:00:01": 24*time.Hour + time.Second,
		"UNLIMITED": slurm.Unlimited, "infinite": slurm.Unlimited,
	} {
		if got, err := slurm.ParseLimit(text); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "garbage", "1:2:3:4", "-5", "1-", "-1-2", "1-1:1:1:1", "999999999999"} {
		if got, err := slurm.ParseLimit(text); err == nil {
			t.Errorf("%q gave %s", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		90 * time.Second: "00:01:30", 48 * time.Hour: "2-00:00:00", time.Millisecond: "00:00:01", slurm.Unlimited: "UNLIMITED",
	} {
		if got := slurm.FormatLimit(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
