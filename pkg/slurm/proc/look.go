package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound says that a command is in none of the directories searched.
var ErrNotFound = errors.New("command not found")

// LookPath finds the executable file name in the directories of path (a PATH
// value, not the process's own), then in extra: cron and batch environments
// carry a short PATH that lacks the site's Slurm directory. A name with a
// slash is returned as it is when it is executable. Empty and relative
// directories are skipped, since the working directory must never decide what
// runs. The error wraps ErrNotFound.
func LookPath(name, path string, extra ...string) (string, error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", fmt.Errorf("find %s: %w (%w)", name, ErrNotFound, err)
		}
		return name, nil
	}
	if name == "" {
		return "", fmt.Errorf("find command: empty name: %w", ErrNotFound)
	}
	for _, dir := range append(filepath.SplitList(path), extra...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if executable(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("find %s in PATH: %w", name, ErrNotFound)
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode()&0o111 == 0:
		return errors.New("is not executable")
	}
	return nil
}

// value returns the last value of name in an environment, as execve's
// consumers see it, or "".
func value(env []string, name string) string {
	out := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			out = v
		}
	}
	return out
}
