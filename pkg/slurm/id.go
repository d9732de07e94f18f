package slurm

import (
	"fmt"
	"regexp"
	"strconv"
)

// ID is a job id in any of the forms Slurm prints.
type ID struct {
	// Base is the number scancel takes for the whole job.
	Base int64
	// Task is the array part as printed: "3", "[2-3%2]", or empty.
	Task string
	// Het is the component of a heterogeneous job, or -1.
	Het int
	// Step is what follows the dot in sacct's rows: "batch", "0", or empty.
	Step string
}

// maxID bounds an id here and not in the pattern: a counted repeat of a
// thousand costs every start of the program four milliseconds.
const maxID = 1080

var idForm = regexp.MustCompile(`^([0-9]{1,18})(?:_([0-9]{1,9}|\[[0-9,:%-]+(?:\.\.\.)?\])|\+([0-9]{1,9}))?(?:\.([A-Za-z0-9_+-]{1,32}))?$`)

// ParseID reads 4747, 4747_3, 4747_[2-3%2], 4751+1 and 4747.batch.
func ParseID(text string) (ID, error) {
	var m []string
	if len(text) <= maxID {
		m = idForm.FindStringSubmatch(text)
	}
	if m == nil {
		return ID{}, fmt.Errorf("parse job id %q: want forms like 4747, 4747_3, 4747_[2-3%%2] or 4751+1", clip(text))
	}
	id := ID{Task: m[2], Het: -1, Step: m[4]}
	var err error
	if id.Base, err = strconv.ParseInt(m[1], 10, 64); err != nil || id.Base == 0 {
		return ID{}, fmt.Errorf("parse job id %q: not a positive number", clip(text))
	}
	if m[3] != "" {
		if id.Het, err = strconv.Atoi(m[3]); err != nil {
			return ID{}, fmt.Errorf("parse job id %q: %w", clip(text), err)
		}
	}
	return id, nil
}

// String writes the id as it was read.
func (id ID) String() string {
	s := strconv.FormatInt(id.Base, 10)
	if id.Task != "" {
		s += "_" + id.Task
	}
	if id.Het >= 0 {
		s += "+" + strconv.Itoa(id.Het)
	}
	if id.Step != "" {
		s += "." + id.Step
	}
	return s
}

// leads tells whether a row with this id speaks for the whole job ref: the id
// itself, or component 0 of a heterogeneous job, or that task of an array.
func (id ID) leads(ref ID) bool {
	return id.Step == "" && id.Base == ref.Base && id.Task == ref.Task && id.Het <= 0
}

// clip shortens untrusted text for an error message.
func clip(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}
