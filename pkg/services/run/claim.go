package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Claim is claims/<name>/: the agreement between shells that start the same
// thing at once. It arrives whole, by the rename of a prepared directory onto
// a name that must be free, so exactly one of many wins; no lock is held.
type Claim struct {
	path   string
	Holder Holder
}

// Holder is holder.json of a claim.
type Holder struct {
	SchemaVersion int    `json:"schema_version"`
	Run           string `json:"run"`
	Host          string `json:"host"`
	PID           int    `json:"pid"`
	// Started is the process's start in clock ticks since boot: a reused pid
	// is not the holder. 0 when it could not be read.
	Started int64     `json:"started_ticks"`
	Time    time.Time `json:"time"`
}

// ProcessStart reads the start of a process of this host in clock ticks since
// boot; 0 when there is no such process.
func ProcessStart(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; start time is field 22.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0
	}
	n, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// HoldsClaim tells whether the claim of name is still runID's. A shell that
// was stopped for long, or whose clock is off, may have lost it to another.
func (s Store) HoldsClaim(name, runID string) (bool, error) {
	var held Holder
	err := ReadJSON(filepath.Join(s.ClaimsDir(), fileWord(name), "holder.json"), &held)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim %s: %w", name, err)
	}
	return held.Run == runID, nil
}

// ErrClaimed says that another run holds the claim.
var ErrClaimed = errors.New("claimed")

// ClaimedError carries who holds it.
type ClaimedError struct{ Holder Holder }

func (e *ClaimedError) Error() string { return "claimed by " + e.Holder.Run }

// Is makes errors.Is(err, ErrClaimed) true.
func (e *ClaimedError) Is(target error) bool { return target == ErrClaimed }

// TakeClaim takes the claim of name for runID. When another run holds it the
// error is a *ClaimedError.
func (s Store) TakeClaim(name, runID string, now time.Time) (Claim, error) {
	dir := s.ClaimsDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Claim{}, fmt.Errorf("claim %s: %w", name, err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	h := Holder{SchemaVersion: SchemaVersion, Run: runID, Host: host, PID: os.Getpid(), Started: ProcessStart(os.Getpid()), Time: now.UTC()}
	tmp, err := os.MkdirTemp(dir, ".new-*")
	if err != nil {
		return Claim{}, fmt.Errorf("claim %s: %w", name, err)
	}
	defer os.RemoveAll(tmp) // gone already when the claim was won
	if err := WriteJSON(filepath.Join(tmp, "holder.json"), h); err != nil {
		return Claim{}, fmt.Errorf("claim %s: %w", name, err)
	}
	path := filepath.Join(dir, fileWord(name))
	// rename(2) of a directory onto a directory that is not empty fails, and
	// onto an empty one succeeds; a claim is never empty.
	if err := os.Rename(tmp, path); err == nil {
		return Claim{path: path, Holder: h}, nil
	} else if !errors.Is(err, os.ErrExist) && !isNotEmpty(err) {
		return Claim{}, fmt.Errorf("claim %s: %w", name, err)
	}
	var held Holder
	if err := ReadJSON(filepath.Join(path, "holder.json"), &held); err != nil {
		if errors.Is(err, os.ErrNotExist) { // broken by another shell between the two calls
			return Claim{}, &ClaimedError{}
		}
		return Claim{}, fmt.Errorf("claim %s: %w", name, err)
	}
	return Claim{}, &ClaimedError{Holder: held}
}

// BreakClaim removes the claim of name if runID still holds it. The caller
// must have looked the holder up: a claim is broken only when its run is known
// to be over. Of several breakers one succeeds and the others do nothing.
func (s Store) BreakClaim(name, runID string) error {
	path := filepath.Join(s.ClaimsDir(), fileWord(name))
	var held Holder
	if err := ReadJSON(filepath.Join(path, "holder.json"), &held); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("break claim %s: %w", name, err)
	}
	if held.Run != runID {
		return nil
	}
	mine, err := soleBreaker(path, runID)
	if err != nil {
		return fmt.Errorf("break claim %s: %w", name, err)
	}
	// Read again: only now is it certain that the claim stays while we look.
	if holds, err := s.HoldsClaim(name, runID); err != nil || !holds || !mine {
		return err
	}
	trash, err := os.MkdirTemp(s.ClaimsDir(), ".old-*")
	if err != nil {
		return fmt.Errorf("break claim %s: %w", name, err)
	}
	defer os.RemoveAll(trash)
	if err := os.Rename(path, filepath.Join(trash, "claim")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("break claim %s: %w", name, err)
	}
	return nil
}

// breakerPatience is how long another breaker may take for two system calls.
const breakerPatience = time.Minute

// soleBreaker makes this process the only one that may break runID's claim.
// The mark lies inside the claim, so it goes with it; and since a shell that
// was slow may make it inside a successor's claim, whose holder it does not
// name, the caller reads the holder once more.
func soleBreaker(path, runID string) (bool, error) {
	mark := filepath.Join(path, "broken-"+fileWord(runID))
	err := os.Mkdir(mark, 0o700)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist): // gone: another one was faster
		return false, nil
	case !errors.Is(err, os.ErrExist):
		return false, err
	}
	info, err := os.Stat(mark)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return time.Since(info.ModTime()) > breakerPatience, nil // that breaker was killed in between
}
