package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	SchemaVersion int       `json:"schema_version"`
	Run           string    `json:"run"`
	Host          string    `json:"host"`
	PID           int       `json:"pid"`
	Time          time.Time `json:"time"`
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
	h := Holder{SchemaVersion: SchemaVersion, Run: runID, Host: host, PID: os.Getpid(), Time: now.UTC()}
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
