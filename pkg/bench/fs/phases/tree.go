package phases

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// layout makes the directories and opens them. Nothing here is timed: IO500
// makes its directories before its phases, too.
func (e *Engine) layout() error {
	var err error
	if e.easyDir, err = e.makeDir(e.root, dirEasy); err != nil {
		return err
	}
	if e.hardDir, err = e.makeDir(e.root, dirHard); err != nil {
		return err
	}
	easy, err := e.makeTest(dirMDEasy)
	if err != nil {
		return err
	}
	for id := range e.plan.Ranks {
		fd, err := e.makeDir(easy, easyTree(id))
		if err != nil {
			return fmt.Errorf("%w (and %w)", err, unix.Close(easy))
		}
		e.mdEasy = append(e.mdEasy, fd)
	}
	if err := unix.Close(easy); err != nil {
		return err
	}
	hard, err := e.makeTest(dirMDHard)
	if err != nil {
		return err
	}
	e.mdHard, err = e.makeDir(hard, dirHardTree)
	if cerr := unix.Close(hard); err == nil {
		err = cerr
	}
	return err
}

func (e *Engine) makeTest(name string) (int, error) {
	top, err := e.makeDir(e.root, name)
	if err != nil {
		return -1, err
	}
	fd, err := e.makeDir(top, dirTest)
	if cerr := unix.Close(top); err == nil {
		err = cerr
	}
	return fd, err
}

func (e *Engine) makeDir(at int, name string) (int, error) {
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return -1, fmt.Errorf("make directory %s: %w", name, err)
	}
	fd, err := openat(at, append([]byte(name), 0), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", name, err)
	}
	return fd, nil
}

// closeDirs releases the descriptors; directories that were only read from
// have nothing to lose in a failed close.
func (e *Engine) closeDirs() {
	for _, fd := range append([]int{e.easyDir, e.hardDir, e.mdHard}, e.mdEasy...) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// deviceBytes reads what this process moved from and to block devices so far.
// ok is false where the kernel does not say.
func deviceBytes() (read, written int64, ok bool) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, 0, false
	}
	return parseIO(text)
}

func parseIO(text []byte) (read, written int64, ok bool) {
	found := 0
	for line := range bytes.Lines(text) {
		key, val, _ := bytes.Cut(line, []byte(":"))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(val)), 10, 64)
		if err != nil {
			continue
		}
		switch string(key) {
		case "read_bytes":
			read, found = n, found+1
		case "write_bytes":
			written, found = n, found+1
		}
	}
	return read, written, found == 2
}
