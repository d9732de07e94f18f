package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm/proc"
)

// siteOf is a resolved site and how it was chosen.
type siteOf struct {
	site.Site
	why string
}

// config reads the configuration file. A file that was named must exist; the
// default one need not.
func (a *app) config() (site.Config, error) {
	path, named := a.configPath, true
	if path == "" {
		path = a.getenv("AIFBENCH_CONFIG")
	}
	if path == "" {
		named = false
		dir := a.getenv("XDG_CONFIG_HOME")
		if !filepath.IsAbs(dir) {
			home := a.userHome()
			if home == "" {
				return site.Config{}, nil
			}
			dir = filepath.Join(home, ".config")
		}
		path = filepath.Join(dir, "aifbench", "config.yaml")
	}
	path = a.abs(path)
	raw, err := os.ReadFile(path)
	if err != nil {
		if !named && errors.Is(err, os.ErrNotExist) {
			return site.Config{}, nil
		}
		return site.Config{}, &failure{code: exitUsage, layer: "config", message: "read configuration", cause: err, advice: "give a readable file with --config, or leave it out"}
	}
	c, err := site.ParseConfig(path, raw)
	if err != nil {
		return c, &failure{code: exitUsage, layer: "config", message: "configuration", cause: err, advice: "`aifbench config keys` lists every key"}
	}
	return c, nil
}

// site chooses the site: --site, AIFBENCH_SITE, the file, else what is found.
// Values then come from AIFBENCH_<KEY>, and from flags through set.
func (a *app) site(set map[string]string) (siteOf, error) {
	cfg, err := a.config()
	if err != nil {
		return siteOf{}, err
	}
	name, why := a.siteName, "flag --site"
	if name == "" {
		name, why = a.getenv("AIFBENCH_SITE"), "AIFBENCH_SITE"
	}
	if name == "" {
		name, why = cfg.Site, "configuration file"
	}
	if name == "" || name == "auto" {
		name, why = a.detect()
	}
	s, err := cfg.Resolve(name)
	if err != nil {
		return siteOf{}, err
	}
	for _, key := range site.Keys() {
		env := "AIFBENCH_" + strings.ToUpper(key)
		if v := a.getenv(env); v != "" {
			if err := s.Set(key, v, env); err != nil {
				return siteOf{}, usage(err.Error(), "correct or unset "+env)
			}
		}
	}
	for _, key := range site.Keys() {
		if v, ok := set[key]; ok {
			if err := s.Set(key, v, "flag"); err != nil {
				return siteOf{}, usage(err.Error(), "correct the flag")
			}
		}
	}
	return siteOf{s, why}, nil
}

// detect looks for any sign of Slurm, healthy or not: a controller that is
// away is no reason to run things on a login node.
func (a *app) detect() (name, why string) {
	if a.getenv("SLURM_CONF") != "" {
		return site.Slurm, "found: SLURM_CONF is set"
	}
	if path, err := proc.LookPath("sbatch", a.getenv("PATH"), "/usr/local/bin", "/usr/bin", "/opt/slurm/bin"); err == nil {
		return site.Slurm, "found: " + path
	}
	for _, f := range []string{"/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/usr/local/etc/slurm.conf"} {
		if _, err := os.Stat(f); err == nil {
			return site.Slurm, "found: " + f
		}
	}
	return site.Local, "found: no sign of Slurm"
}

// siteFlags are the flags of verbs that submit jobs; they override the site.
type siteFlags struct {
	account, partition, qos, constraint, reservation, timeLimit string
}

func (f *siteFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&f.account, "account", "A", "", "account of the job")
	fs.StringVarP(&f.partition, "partition", "p", "", "partition of the job")
	fs.StringVar(&f.qos, "qos", "", "QOS of the job")
	fs.StringVarP(&f.constraint, "constraint", "C", "", "node features of the job")
	fs.StringVar(&f.reservation, "reservation", "", "reservation of the job")
	fs.StringVarP(&f.timeLimit, "time", "t", "", "time limit of the job, e.g. 2h or 01:30:00")
}

// set names the keys the user gave. A partition counts for GPU jobs too.
func (f *siteFlags) set(cmd *cobra.Command) map[string]string {
	out := map[string]string{}
	for flag, keys := range map[string][]string{
		"account": {"account"}, "partition": {"partition", "gpu_partition"}, "qos": {"qos"}, "constraint": {"constraint"},
		"reservation": {"reservation"}, "time": {"time_limit"},
	} {
		if fl := cmd.Flags().Lookup(flag); fl != nil && fl.Changed {
			for _, k := range keys {
				out[k] = fl.Value.String()
			}
		}
	}
	return out
}

// tunnelLine is what a user types on the own machine to reach a port that a
// node opens on its own address.
func tunnelLine(s site.Site, login, node string, port int) string {
	host, opt := loginOf(s, login)
	return fmt.Sprintf("ssh%s -N -L 127.0.0.1:%d:%s:%d %s", opt, port, node, port, host)
}

// loopbackTunnel reaches a port that a node opens on loopback only: through
// the login host to the node itself.
func loopbackTunnel(s site.Site, login, node string, port int) string {
	host, _ := loginOf(s, login)
	if s.Profile.LoginPort != 0 {
		host += fmt.Sprintf(":%d", s.Profile.LoginPort)
	}
	if s.Profile.Scheduler == site.SchedulerLocal {
		return fmt.Sprintf("ssh -N -L 127.0.0.1:%d:127.0.0.1:%d %s", port, port, host)
	}
	return fmt.Sprintf("ssh -J %s -N -L 127.0.0.1:%d:127.0.0.1:%d %s", host, port, port, node)
}

func loginOf(s site.Site, login string) (host, opt string) {
	p := s.Profile
	host = p.LoginHost
	if host == "" {
		host = login
	}
	if p.LoginUser != "" {
		host = p.LoginUser + "@" + host
	}
	if p.LoginPort != 0 {
		opt = fmt.Sprintf(" -p %d", p.LoginPort)
	}
	return host, opt
}
