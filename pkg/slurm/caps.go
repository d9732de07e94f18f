package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Capabilities is what a site's Slurm is and allows. Ask once a run and keep
// it. Durations are zero and words empty where the site does not say.
type Capabilities struct {
	Version             string        `json:"version"`
	Cluster             string        `json:"cluster"`
	MessageTimeout      time.Duration `json:"message_timeout_ns"`
	MinJobAge           time.Duration `json:"min_job_age_ns"`
	KillWait            time.Duration `json:"kill_wait_ns"`
	SlurmdTimeout       time.Duration `json:"slurmd_timeout_ns"`
	MaxArraySize        int           `json:"max_array_size"`
	JobRequeue          bool          `json:"job_requeue"`
	EnforcePartLimits   string        `json:"enforce_part_limits"`
	Accounting          bool          `json:"accounting"` // sacct has something to say
	AccountingStoreJobs bool          `json:"accounting_stores_scripts"`
	RateLimited         bool          `json:"rate_limited"`
	ProctrackType       string        `json:"proctrack_type"`
}

// Settle is how long a name must be unknown before a doubtful submission
// counts as failed.
func (c Capabilities) Settle() time.Duration {
	return max(time.Minute, 2*c.MessageTimeout+30*time.Second)
}

// Capabilities asks sbatch for its version and the controller for its
// configuration.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	out, err := c.run(ctx, "sbatch", "-V")
	if err != nil {
		return Capabilities{}, fmt.Errorf("ask slurm version: %w", err)
	}
	version, err := ParseVersion(out.Stdout)
	if err != nil {
		return Capabilities{}, err
	}
	out, err = c.run(ctx, "scontrol", "show", "config")
	if err != nil {
		return Capabilities{Version: version}, fmt.Errorf("ask slurm configuration: %w", err)
	}
	caps := ParseConfig(out.Stdout)
	caps.Version = version
	return caps, nil
}

// ParseVersion reads "slurm 22.05.8" (also "slurm-wlm 22.05.8").
func ParseVersion(text []byte) (string, error) {
	f := strings.Fields(string(text))
	if len(f) < 2 || !strings.HasPrefix(strings.ToLower(f[0]), "slurm") || f[1] == "" || f[1][0] < '0' || f[1][0] > '9' {
		return "", fmt.Errorf("parse slurm version %q: want like \"slurm 25.11.7\"", clip(string(text)))
	}
	return clip(f[1]), nil
}

// ParseConfig reads scontrol show config: "Key = value" lines. Keys it does not
// know are skipped.
func ParseConfig(text []byte) Capabilities {
	m := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, "="); ok {
			m[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	seconds := func(key string) time.Duration {
		n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(m[key], "sec")), 10, 31)
		if err != nil {
			return 0
		}
		return time.Duration(n) * time.Second
	}
	array, _ := strconv.Atoi(m["MaxArraySize"])
	store := m["AccountingStorageType"]
	return Capabilities{
		Cluster: m["ClusterName"], MessageTimeout: seconds("MessageTimeout"), MinJobAge: seconds("MinJobAge"),
		KillWait: seconds("KillWait"), SlurmdTimeout: seconds("SlurmdTimeout"), MaxArraySize: array,
		JobRequeue: m["JobRequeue"] == "1", EnforcePartLimits: m["EnforcePartLimits"],
		Accounting:          store != "" && store != "(null)" && store != "none" && store != "accounting_storage/none",
		AccountingStoreJobs: strings.Contains(m["AccountingStoreFlags"], "job_script") || strings.Contains(m["AccountingStoreFlags"], "job_env"),
		RateLimited:         strings.Contains(m["SlurmctldParameters"], "rl_enable"),
		ProctrackType:       m["ProctrackType"],
	}
}
