package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/datadir"
	"aifbench/pkg/metrics/archive"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

// Exit codes. This is the only table of them; `help exit-codes` prints it.
const (
	exitOK           = 0
	exitInternal     = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitRefused      = 4
	exitNotReady     = 5
	exitGate         = 6
	exitInconclusive = 7
	exitInfra        = 8
	exitBad          = 9
	exitGuard        = 10
	exitTimeout      = 124
	exitInt          = 130
	exitTerm         = 143
)

// exitTable is the text of each code, in the order shown.
var exitTable = []struct {
	code  int
	name  string
	means string
}{
	{exitOK, "ok", "done, ready, or every gate passed"},
	{exitInternal, "internal", "a defect of this program"},
	{exitUsage, "usage", "the command line or the configuration is wrong"},
	{exitNotFound, "not_found", "no such run, service instance or file"},
	{exitRefused, "refused", "the scheduler or the site said no"},
	{exitNotReady, "not_ready", "not ready or not finished yet"},
	{exitGate, "gate_failed", "a gate was missed"},
	{exitInconclusive, "inconclusive", "not enough evidence: a gated figure is null, or the client was the limit"},
	{exitInfra, "infrastructure", "something around us failed; a retry makes sense"},
	{exitBad, "failed", "the benchmark failed, its result is invalid, or the job ended badly"},
	{exitGuard, "guard", "a safety guard stopped it"},
	{exitTimeout, "timeout", "the wait timed out; what was waited for goes on"},
	{exitInt, "interrupted", "ended by SIGINT"},
	{exitTerm, "terminated", "ended by SIGTERM"},
}

// precedence decides between codes when several apply, the first wins.
var precedence = []int{exitUsage, exitNotFound, exitGuard, exitRefused, exitInfra, exitInt, exitTerm, exitBad, exitInconclusive, exitGate, exitOK}

// weigh returns the code that wins.
func weigh(codes ...int) int {
	for _, p := range precedence {
		for _, c := range codes {
			if c == p && c != exitOK {
				return c
			}
		}
	}
	for _, c := range codes {
		if c != exitOK {
			return c
		}
	}
	return exitOK
}

func codeName(code int) string {
	for _, e := range exitTable {
		if e.code == code {
			return e.name
		}
	}
	return "internal"
}

// failure is an error that knows its exit code and what the user can do.
type failure struct {
	code      int
	layer     string // cli, config, run, scheduler, engine, network, storage
	retryable bool
	message   string
	evidence  string
	advice    string
	cause     error
}

func (f *failure) Error() string {
	msg := f.message
	if f.cause != nil {
		if msg != "" {
			msg += ": "
		}
		msg += f.cause.Error()
	}
	return msg
}

func (f *failure) Unwrap() error { return f.cause }

// silent carries a code of a command that has printed its document already.
type silent struct{ code int }

func (s *silent) Error() string { return fmt.Sprintf("exit %d", s.code) }

func usage(message, advice string) error {
	return &failure{code: exitUsage, layer: "cli", message: message, advice: advice}
}

func fail(code int, layer, message, advice string) error {
	return &failure{code: code, layer: layer, message: message, advice: advice, retryable: code == exitInfra || code == exitNotReady}
}

// classify turns any error into a failure.
func classify(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		out := *f
		if out.message == "" && out.cause == nil {
			out.message = err.Error()
		}
		return &out
	}
	f := &failure{code: exitInternal, layer: "cli", cause: err}
	if sig, ok := errors.AsType[*signalError](err); ok || ctx.Err() != nil {
		if !ok {
			sig, ok = errors.AsType[*signalError](context.Cause(ctx))
		}
		if ok {
			f.code = 128 + int(sig.sig)
			return f
		}
	}
	if u, ok := errors.AsType[*services.UsageError](err); ok {
		f.code, f.cause = exitUsage, nil
		f.message, f.advice, _ = strings.Cut(u.Text, "; ")
		return f
	}
	if r, ok := errors.AsType[*slurm.Refused](err); ok {
		f.code, f.layer, f.advice = exitRefused, "scheduler", r.Advice
		return f
	}
	if _, ok := errors.AsType[*archive.SecretError](err); ok {
		f.code, f.layer = exitGuard, "storage"
		return f
	}
	if _, ok := errors.AsType[*result.UnknownFigureError](err); ok {
		f.code = exitUsage
		return f
	}
	for _, c := range []struct {
		is     error
		code   int
		layer  string
		advice string
	}{
		{services.ErrUnknown, exitUsage, "cli", ""},
		{site.ErrUnknown, exitUsage, "config", "name a known site with --site, or add it to the configuration file"},
		{runs.ErrAmbiguous, exitUsage, "run", "give more letters of the id"},
		{runs.ErrNotFound, exitNotFound, "run", "`aifbench list` shows what there is"},
		{fs.ErrConfig, exitUsage, "cli", "`aifbench bench lustre --help` lists the flags"},
		{datadir.ErrForeign, exitGuard, "storage", "nothing was touched there; give a new or empty directory"},
		{runs.ErrNotOwned, exitGuard, "storage", "nothing was removed there; look at the path and remove it by hand if it is yours"},
		{runs.ErrDamaged, exitInfra, "storage", "look into the directory; `aifbench clean` does not touch it"},
		{archive.ErrExists, exitGuard, "storage", "choose another name or add --force"},
		{archive.ErrFormat, exitUsage, "cli", "end the name in .zip, .tar.zst or .tar.gz"},
		{slurm.ErrMissing, exitUsage, "scheduler", "put the Slurm commands on PATH, set slurm_bin in the site profile, or use --site local"},
		{slurm.ErrDoubtful, exitInfra, "scheduler", "run the same command again: it looks the job up before anything is submitted"},
		{slurm.ErrAway, exitInfra, "scheduler", "the controller does not answer; try again later"},
		{os.ErrPermission, exitInfra, "storage", "check owner and mode of the path"},
		{syscall.EADDRINUSE, exitInfra, "network", "another process has the port; try again"},
		{context.DeadlineExceeded, exitInfra, "network", "try again"},
	} {
		if errors.Is(err, c.is) {
			f.code, f.layer, f.advice = c.code, c.layer, c.advice
			f.retryable = c.code == exitInfra && c.layer != "storage"
			return f
		}
	}
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		f.code, f.layer, f.retryable = exitInfra, "storage", true
		f.advice = "check " + pathErr.Path + ": space, quota, permissions"
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		f.code, f.layer, f.retryable = exitInfra, "storage", true
		f.advice = "check " + linkErr.New + ": is a directory in its place? space, quota, permissions"
	}
	return f
}

// errorDoc is the one document on stdout when a command fails under -o json.
type errorDoc struct {
	SchemaVersion int       `json:"schema_version"`
	Error         errorBody `json:"error"`
}

type errorBody struct {
	Code      int    `json:"code"`
	Name      string `json:"name"`
	Cause     string `json:"cause"`
	Layer     string `json:"layer"`
	Retryable bool   `json:"retryable"`
	Message   string `json:"message"`
	Evidence  string `json:"evidence"`
	Advice    string `json:"advice"`
}

// finish reports err and returns the exit code: one line on stderr, and under
// -o json the error document on stdout, unless a document is there already.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if s, ok := errors.AsType[*silent](err); ok {
		return s.code
	}
	f := classify(ctx, err)
	msg := err.Error()
	if f.message != "" && f.cause == nil {
		msg = f.message
	}
	if a.output == formatJSON && !a.emitted {
		cause := codeName(f.code)
		if f.cause != nil {
			cause = rootCause(f.cause).Error()
		}
		doc := errorDoc{SchemaVersion: 1, Error: errorBody{
			Code: f.code, Name: codeName(f.code), Cause: cause, Layer: f.layer, Retryable: f.retryable, Message: msg, Evidence: f.evidence, Advice: f.advice,
		}}
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if werr := enc.Encode(doc); werr != nil {
			fmt.Fprintf(a.err, "aifbench: write the error document: %v\n", werr)
		}
	}
	fmt.Fprintf(a.err, "aifbench: %s\n", table.Clean(msg))
	if f.advice != "" {
		fmt.Fprintf(a.err, "hint: %s\n", table.Clean(f.advice))
	}
	return f.code
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
