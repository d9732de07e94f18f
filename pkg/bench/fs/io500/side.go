package io500

import (
	"bufio"
	"bytes"
	"io"
	"regexp"
	"strconv"
)

// Side is what the text of one phase's IOR or mdtest output tells about its
// validity. Text is kept for the first telling line only: such files reach
// hundreds of megabytes.
type Side struct {
	File         string
	VerifyErrors int64 // files or transfers whose content was wrong
	Warnings     int64 // WARNING lines that tell of failed operations
	Nodes, Tasks int64 // as the tool counted them; 0 when it does not say
	Evidence     string
	EvidenceLine int
}

var (
	mdVerify   = regexp.MustCompile(`ERROR: verifying the data on read \((\d+) errors?\)`)
	iorVerify  = regexp.MustCompile(`WARNING: Incorrect data on (?:read|write) \((\d+) errors? found\)`)
	opWarning  = regexp.MustCompile(`^WARNING: (unable to|Unable to|\[RANK|task \d+, partial|unlink|.*[Ff]ailed)`)
	iorNodes   = regexp.MustCompile(`^nodes\s*: (\d+)$`)
	iorTasks   = regexp.MustCompile(`^tasks\s*: (\d+)$`)
	mdLaunched = regexp.MustCompile(`was launched with (\d+) total task\(s\) on (\d+) node\(s\)`)
)

const maxLine = 64 << 10

// ReadSide reads one side file as a stream; of a line longer than 64 KiB only
// the beginning is looked at.
func ReadSide(file string, src io.Reader) (Side, error) {
	s := Side{File: file}
	r := bufio.NewReaderSize(src, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		s.line(n, bytes.TrimRight(line, "\r\n"))
		for err == bufio.ErrBufferFull {
			_, err = r.ReadSlice('\n')
		}
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

func (s *Side) line(n int, line []byte) {
	count := func(b []byte) int64 {
		v, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil {
			return 0
		}
		return v
	}
	evidence := func() {
		if s.Evidence == "" {
			s.Evidence, s.EvidenceLine = printable(string(line)), n
		}
	}
	if m := mdVerify.FindSubmatch(line); m != nil {
		s.VerifyErrors += count(m[1])
		evidence()
	} else if m := iorVerify.FindSubmatch(line); m != nil {
		s.VerifyErrors += count(m[1])
		evidence()
	} else if m := iorNodes.FindSubmatch(line); m != nil {
		s.Nodes = count(m[1])
	} else if m := iorTasks.FindSubmatch(line); m != nil {
		s.Tasks = count(m[1])
	} else if m := mdLaunched.FindSubmatch(line); m != nil {
		s.Tasks, s.Nodes = count(m[1]), count(m[2])
	} else if opWarning.Match(line) {
		s.Warnings++
		evidence()
	}
}
