package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Request kinds a supervisor takes.
const (
	RequestBench = "bench" // run the generator of BenchDir beside the service
	RequestHTTP  = "http"  // one GET or POST to an engine on loopback, for shells that cannot reach the door
	RequestFlush = "flush" // write telemetry now
)

// Request is requests/<id>.json: what the CLI asks of the supervisor.
type Request struct {
	SchemaVersion int       `json:"schema_version"`
	ID            string    `json:"id"`
	Kind          string    `json:"kind"`
	Created       time.Time `json:"created"`
	BenchDir      string    `json:"bench_dir,omitempty"`
	Engine        string    `json:"engine,omitempty"` // name of the engine process for http
	Method        string    `json:"method,omitempty"`
	Path          string    `json:"path,omitempty"`
	Body          string    `json:"body,omitempty"`
}

// Answer is requests/<id>.answer.json. State is accepted while the work runs
// and done or failed at its end.
type Answer struct {
	SchemaVersion int       `json:"schema_version"`
	ID            string    `json:"id"`
	State         string    `json:"state"` // accepted, done, failed
	Updated       time.Time `json:"updated"`
	ExitCode      *int      `json:"exit_code,omitempty"`
	Message       string    `json:"message,omitempty"`
	Status        int       `json:"status,omitempty"`
	ContentType   string    `json:"content_type,omitempty"`
	Body          []byte    `json:"body,omitempty"`
}

// Answer states.
const (
	AnswerAccepted = "accepted"
	AnswerDone     = "done"
	AnswerFailed   = "failed"
)

// Ask writes a request; the same id twice is os.ErrExist.
func (d Dir) Ask(r Request) error {
	r.SchemaVersion = SchemaVersion
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("ask %s: %w", d.ID(), err)
	}
	if err := CreateFile(d.File(RequestsDir, fileWord(r.ID)+".json"), append(raw, '\n')); err != nil {
		return fmt.Errorf("ask %s: %w", d.ID(), err)
	}
	return nil
}

// Requests reads the requests that have no final answer yet.
func (d Dir) Requests() ([]Request, []error) {
	entries, err := os.ReadDir(d.File(RequestsDir))
	if err != nil {
		return nil, []error{fmt.Errorf("requests of %s: %w", d.ID(), err)}
	}
	var out []Request
	var problems []error
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || filepath.Ext(name) != ".json" || strings.HasSuffix(name, ".answer.json") {
			continue
		}
		var r Request
		if err := ReadJSON(d.File(RequestsDir, name), &r); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				problems = append(problems, err)
			}
			continue
		}
		if a, err := d.Answer(r.ID); err == nil && a.State != AnswerAccepted {
			continue
		}
		out = append(out, r)
	}
	return out, problems
}

// Reply writes or replaces the answer to a request.
func (d Dir) Reply(a Answer) error {
	a.SchemaVersion = SchemaVersion
	return WriteJSON(d.File(RequestsDir, fileWord(a.ID)+".answer.json"), a)
}

// Answer reads the answer to a request; os.ErrNotExist is wrapped when there is none.
func (d Dir) Answer(id string) (Answer, error) {
	var a Answer
	err := ReadJSON(d.File(RequestsDir, fileWord(id)+".answer.json"), &a)
	return a, err
}
