package slurm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/slurm"
)

const recorded = "../../testdata/slurm"

var versions = []string{"22.05", "25.11"}

func read(t testing.TB, version, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recorded, version, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// brief is a row in one line, for tables worked out by hand from the recording.
func brief(r slurm.Row) string {
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format("15:04:05")
	}
	reason, kind := slurm.ParseReason(r.Reason)
	if reason == "" {
		reason = "-"
	}
	exit := "-"
	if r.Exit != nil {
		exit = strings.Join([]string{itoa(r.Exit.Code), itoa(r.Exit.Signal)}, ":")
	}
	by := ""
	if r.By != nil {
		by = "by" + itoa(*r.By)
	}
	nodes := r.Nodes
	if nodes == "" {
		nodes = "-"
	}
	return strings.Join([]string{r.ID.String(), itoa(int(r.Raw)), string(r.State) + by, reason, string(kind), stamp(r.Submit), stamp(r.Start), stamp(r.End), nodes, exit, r.Name}, " ")
}

func briefs(rows []slurm.Row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, brief(r))
	}
	return out
}

func TestParseQueueRecorded(t *testing.T) {
	t.Parallel()
	for version, want := range map[string][]string{
		"22.05": {
			"4778 4778 CANCELLED - none 11:23:26 11:23:29 11:23:29 mel0005 - aifb-cxl",
			"4776 4776 COMPLETED - none 11:23:26 11:23:29 11:23:29 mel0005 - aifb-ok",
			"4775 4775 FAILED NonZeroExitCode soft 11:23:26 11:23:29 11:23:29 mel0005 - aifb-fail",
			"4777_1 4777 PENDING JobArrayTaskLimit soft 11:23:26 - - - - aifb-arr",
			"4777_2 4777 PENDING JobArrayTaskLimit soft 11:23:26 - - - - aifb-arr",
			"4777_3 4777 PENDING JobArrayTaskLimit soft 11:23:26 - - - - aifb-arr",
			"4782 4782 PENDING Priority soft 11:23:26 - - - - aifb-requeue",
			"4780+1 4781 PENDING - none 11:23:26 - - - - aifb-het",
			"4774 4774 PENDING JobHeldUser soft 11:23:26 - - - - aifb-held",
			"4773 4773 RUNNING - none 11:23:26 11:23:29 11:33:29 mel0005 - aifb-run",
			"4777_0 4783 RUNNING - none 11:23:26 11:23:29 11:33:29 mel0005 - aifb-arr",
			"4780+0 4780 PENDING - none 11:23:26 - - - - aifb-het",
			"4779 4779 PENDING PartitionTimeLimit fatal 11:23:26 - - - - aifb-lim",
		},
		"25.11": {
			"6 6 CANCELLED - none 11:29:22 11:29:23 11:29:25 mel0005 - aifb-cxl",
			"4 4 COMPLETED - none 11:29:22 11:29:23 11:29:23 mel0005 - aifb-ok",
			"5_0 11 COMPLETED - none 11:29:22 11:29:23 11:29:26 mel0005 - aifb-arr",
			"3 3 FAILED NonZeroExitCode soft 11:29:22 11:29:23 11:29:23 mel0005 - aifb-fail",
			"10 10 PENDING BeginTime soft 11:29:25 11:31:26 11:41:26 - - aifb-requeue",
			"5_1 5 PENDING JobArrayTaskLimit soft 11:29:22 - - - - aifb-arr",
			"5_2 5 PENDING JobArrayTaskLimit soft 11:29:22 - - - - aifb-arr",
			"5_3 5 PENDING JobArrayTaskLimit soft 11:29:22 - - - - aifb-arr",
			"2 2 PENDING JobHeldUser soft 11:29:22 - - - - aifb-held",
			"1 1 RUNNING - none 11:29:22 11:29:23 11:39:23 mel0005 - aifb-run",
			"8+1 9 RUNNING - none 11:29:22 11:29:23 11:39:23 mel0005 - aifb-het",
			"8+0 8 RUNNING - none 11:29:22 11:29:23 11:39:23 mel0001 - aifb-het",
			"7 7 PENDING PartitionTimeLimit fatal 11:29:22 - - - - aifb-lim",
		},
	} {
		rows, bad := slurm.ParseQueue(read(t, version, "squeue_me.out"))
		if len(bad) > 0 {
			t.Errorf("%s: %v", version, bad)
		}
		if diff := cmp.Diff(want, briefs(rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
}

// TestParseAccountingRecorded reads the recordings, whose job name is not last
// as in the client's own calls: none of their names holds a separator.
func TestParseAccountingRecorded(t *testing.T) {
	t.Parallel()
	long := strings.Split("jobidraw,jobid,jobname,state%30,exitcode,derivedexitcode,submit,start,end,nodelist,alloctres", ",")
	for version, want := range map[string][]string{
		"22.05": {
			"4773 4773 RUNNING - none 11:23:26 11:23:29 - mel0005 0:0 aifb-run",
			"4774 4774 PENDING - none 11:23:26 - - - 0:0 aifb-held",
			"4775 4775 FAILED - none 11:23:26 11:23:29 11:23:29 mel0005 5:0 aifb-fail",
			"4776 4776 COMPLETED - none 11:23:26 11:23:29 11:23:29 mel0005 0:0 aifb-ok",
			"4778 4778 CANCELLEDby1001 - none 11:23:26 11:23:29 11:23:29 mel0005 0:0 aifb-cxl",
			"4779 4779 PENDING - none 11:23:26 - - - 0:0 aifb-lim",
			"4780+0 4780 PENDING - none 11:23:26 - - - 0:0 aifb-het",
			"4780+1 4781 PENDING - none 11:23:26 - - - 0:0 aifb-het",
			"4782 4782 PENDING - none 11:23:26 - - - 0:0 aifb-requeue",
			"4777_0 4783 RUNNING - none 11:23:26 11:23:29 - mel0005 0:0 aifb-arr",
			"4777_[1-3%1] 4777 PENDING - none 11:23:26 - - - 0:0 aifb-arr",
		},
		"25.11": {
			"1 1 COMPLETED - none 11:04:28 11:04:28 11:04:59 mel0005 0:0 wrap",
			"2 2 CANCELLEDby0 - none 11:04:28 - 11:05:05 - 0:0 wrap",
			"3 3 FAILED - none 11:04:28 11:04:28 11:04:29 mel0005 5:0 wrap",
			"4 4 CANCELLEDby0 - none 11:04:32 - 11:05:05 - 0:0 wrap",
			"5 5 FAILED - none 11:04:32 - 11:04:32 - 1:0 wrap",
			"1 1 RUNNING - none 11:29:22 11:29:23 - mel0005 0:0 aifb-run",
			"2 2 PENDING - none 11:29:22 - - - 0:0 aifb-held",
			"3 3 FAILED - none 11:29:22 11:29:23 11:29:23 mel0005 5:0 aifb-fail",
			"4 4 COMPLETED - none 11:29:22 11:29:23 11:29:23 mel0005 0:0 aifb-ok",
			"6 6 CANCELLEDby1001 - none 11:29:22 11:29:23 11:29:25 mel0005 0:0 aifb-cxl",
			"7 7 PENDING - none 11:29:22 - - - 0:0 aifb-lim",
			"8+0 8 RUNNING - none 11:29:22 11:29:23 - mel0001 0:0 aifb-het",
			"8+1 9 RUNNING - none 11:29:22 11:29:23 - mel0005 0:0 aifb-het",
			"10 10 REQUEUED - none 11:29:22 11:29:23 11:29:25 mel0006 0:0 aifb-requeue",
			"5_0 11 COMPLETED - none 11:29:22 11:29:23 11:29:26 mel0005 0:0 aifb-arr",
			"5_[1-3%1] 5 PENDING - none 11:29:22 - - - 0:0 aifb-arr",
			"10 10 PENDING - none 11:29:25 - - - 0:0 aifb-requeue",
		},
	} {
		rows, bad := slurm.ParseAccounting(read(t, version, "sacct.out"), long)
		if len(bad) > 0 {
			t.Errorf("%s: %v", version, bad)
		}
		if diff := cmp.Diff(want, briefs(rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
		short := long[:6]
		for _, name := range []string{"sacct_final.out", "sacct_later.out"} {
			if rows, bad := slurm.ParseAccounting(read(t, version, name), short); len(bad) > 0 || len(rows) < 13 {
				t.Errorf("%s %s: %d rows, %v", version, name, len(rows), bad)
			}
		}
		steps, bad := slurm.ParseAccounting(read(t, version, "sacct_steps.out"), []string{"jobid", "state", "exitcode"})
		if len(bad) > 0 || len(steps) < 13 {
			t.Errorf("%s sacct_steps: %d rows, %v", version, len(steps), bad)
		}
		batch := 0
		for _, s := range steps {
			if s.ID.Step == "batch" {
				batch++
			}
		}
		if batch < 5 {
			t.Errorf("%s: %d batch steps", version, batch)
		}
	}
}

func TestParseJobRecordsRecorded(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]map[string][]string{
		"22.05": {
			"scontrol_A.out": {
				"4777_[1-3%1] 4777 PENDING JobArrayTaskLimit soft 11:23:26 - - - 0:0 aifb-arr",
				"4777_0 4783 RUNNING - none 11:23:26 11:23:29 11:33:29 mel0005 0:0 aifb-arr",
			},
			"scontrol_E.out": {
				"4780+0 4780 RUNNING - none 11:23:26 11:23:31 11:33:31 mel0001 0:0 aifb-het",
				"4780+1 4781 RUNNING - none 11:23:26 11:23:31 11:33:31 mel0005 0:0 aifb-het",
			},
			"scontrol_F.out": {"4775 4775 FAILED NonZeroExitCode soft 11:23:26 11:23:29 11:23:29 mel0005 5:0 aifb-fail"},
		},
		"25.11": {
			"scontrol_F.out": {"3 3 FAILED NonZeroExitCode soft 11:29:22 11:29:23 11:29:23 mel0005 5:0 aifb-fail"},
			"scontrol_H.out": {"2 2 PENDING JobHeldUser soft 11:29:22 - - - 0:0 aifb-held"},
			"scontrol_Q.out": {"10 10 PENDING BeginTime soft 11:29:25 11:31:26 11:41:26 - 0:0 aifb-requeue"},
			"scontrol_X.out": {"6 6 CANCELLED - none 11:29:22 11:29:23 11:29:25 mel0005 0:15 aifb-cxl"},
		},
	} {
		for name, lines := range want {
			rows, bad := slurm.ParseJobRecords(read(t, version, name))
			if len(bad) > 0 {
				t.Errorf("%s %s: %v", version, name, bad)
			}
			if diff := cmp.Diff(lines, briefs(rows)); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", version, name, diff)
			}
		}
		for _, name := range []string{"scontrol_A.out", "scontrol_E.out", "scontrol_H.out", "scontrol_Q.out", "scontrol_R.out", "scontrol_X.out"} {
			if rows, bad := slurm.ParseJobRecords(read(t, version, name)); len(bad) > 0 || len(rows) == 0 {
				t.Errorf("%s %s: %d rows, %v", version, name, len(rows), bad)
			}
		}
	}
}

func TestParseQueueHostile(t *testing.T) {
	t.Parallel()
	text := "7|7|RUNNING|None|1700000000|1700000001|1700003600|mel[1-2]|a|b|c\n" + // separators in the name
		"garbage\n\n" +
		"8|8|PENDING|ReqNodeNotAvail, UnavailableNodes:mel1|1700000000|N/A|N/A||x\n" +
		"x|8|PENDING|None|0|0|0||x\n" +
		"9|9||None|0|0|0||x\n" +
		"9|9|RUNNING|None|yesterday|0|0||x\n"
	rows, bad := slurm.ParseQueue([]byte(text))
	if len(rows) != 2 || rows[0].Name != "a|b|c" || rows[0].Submit.Unix() != 1700000000 {
		t.Errorf("rows %+v", rows)
	}
	if reason, kind := slurm.ParseReason(rows[1].Reason); reason != "ReqNodeNotAvail" || kind != slurm.ReasonSoft {
		t.Errorf("reason %q %s", reason, kind)
	}
	var lines []int
	for _, b := range bad {
		lines = append(lines, b.Line)
	}
	if diff := cmp.Diff([]int{2, 5, 6, 7}, lines); diff != "" {
		t.Error(diff)
	}
}

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
	for _, text := range []string{"", "0", "-1", "x", "1_", "1_[", "1+", "1 2", "99999999999999999999", "1\n"} {
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
