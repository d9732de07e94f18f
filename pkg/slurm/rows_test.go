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
