package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
)

// target is where the load goes.
type target struct {
	run     *runs.Dir
	end     runs.Endpoint
	url     string // what the generator connects to
	keyFile string
	dir     string // a directory for lustre, the persist directory for chroma
	model   string
	engine  string
	nonce   string
}

// findTarget resolves what is loaded: a URL, a directory, or the one live and
// ready run of the service.
func (a *app) findTarget(ctx context.Context, st runs.Store, s siteOf, o *benchOptions) (target, error) {
	switch {
	case o.endpoint != "":
		t := target{url: o.endpoint, engine: ""}
		if o.keyFile != "" {
			t.keyFile = a.abs(o.keyFile)
			info, err := os.Stat(t.keyFile)
			if err != nil {
				return t, usage("--key-file: "+err.Error(), "write the key to a file of mode 0600 and give its path")
			}
			if info.Mode().Perm()&0o077 != 0 {
				return t, usage(fmt.Sprintf("--key-file %s: mode %o lets others read it", t.keyFile, info.Mode().Perm()), "chmod 600 it")
			}
		}
		return t, nil
	case o.dir != "":
		path := a.abs(o.dir)
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			return target{}, usage(fmt.Sprintf("--dir %s: not a directory that can be read", path), "give a directory on the file system to measure")
		}
		return target{dir: path}, nil
	}
	dir, err := a.liveRun(ctx, st, s, o.service, o.run)
	if err != nil {
		return target{}, err
	}
	ep, err := dir.ReadEndpoint()
	if err != nil {
		return target{}, fmt.Errorf("bench %s: %w", o.service, err)
	}
	return target{
		run: &dir, end: ep, url: ep.LocalURL, keyFile: dir.File(runs.KeyFile), dir: ep.DataDir, model: ep.Model, engine: ep.Engine, nonce: dir.Intent.Nonce,
	}, nil
}

// liveRun finds the one ready run of a service.
func (a *app) liveRun(ctx context.Context, st runs.Store, s siteOf, service, ref string) (runs.Dir, error) {
	var dirs []runs.Dir
	if ref != "" {
		d, err := st.Resolve(ref)
		if err != nil {
			return d, err
		}
		if d.Intent.Service != service || d.Intent.Verb != "start" {
			return d, usage(fmt.Sprintf("run %s is a %s of %s", d.ID(), d.Intent.Verb, d.Intent.Service), "give a started run of "+service)
		}
		dirs = []runs.Dir{d}
	} else {
		all, damaged, err := st.List()
		if err != nil {
			return runs.Dir{}, err
		}
		for _, bad := range damaged {
			if runs.ServiceOf(bad.ID) == service {
				a.warn("%v", bad.Err)
			}
		}
		for _, d := range all {
			if d.Intent.Service == service && d.Intent.Verb == "start" {
				dirs = append(dirs, d)
			}
		}
	}
	var ready []runs.Dir
	var notYet *row
	for _, v := range a.look(ctx, st, s, dirs) {
		r := v.row(a.now())
		switch {
		case r.Ready:
			ready = append(ready, v.dir)
		case ref != "" || r.Code == exitNotReady || r.Code == exitInfra:
			notYet = &r
		}
	}
	switch {
	case len(ready) == 1:
		return ready[0], nil
	case len(ready) > 1:
		ids := make([]string, len(ready))
		for i, d := range ready {
			ids[i] = d.ID()
		}
		return runs.Dir{}, usage(fmt.Sprintf("%d live runs of %s", len(ready), service), "choose one with --run: "+strings.Join(ids, ", "))
	case notYet != nil:
		code := notYet.Code
		if code == exitOK {
			code = exitNotReady
		}
		return runs.Dir{}, fail(code, "run", fmt.Sprintf("run %s is not ready: %s %s", notYet.Run, notYet.State, notYet.Why), "`aifbench wait "+notYet.Run+"` waits for it")
	}
	return runs.Dir{}, fail(exitNotFound, "run", "there is no live run of "+service, "`aifbench start "+service+" --wait` starts one")
}

// place chooses where the load is made.
func (o *benchOptions) place(s siteOf, t target) (string, error) {
	slurmSite := s.Profile.Scheduler == site.SchedulerSlurm
	where := o.where
	if where == "" {
		switch {
		case o.service != "lustre" && t.run != nil:
			where = whereBeside
		case slurmSite:
			where = whereJob
		default:
			where = whereHere
		}
	}
	if where == whereBeside && (t.run == nil || o.service == "lustre") {
		return "", usage("--where beside needs a started run with a job", "use --where job or --where here")
	}
	if where == whereHere && o.detach {
		return "", usage("--detach needs --where beside or --where job", "leave --detach out")
	}
	return where, nil
}
