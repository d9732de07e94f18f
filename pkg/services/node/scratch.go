package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aifbench/pkg/services/run"
)

// makeScratch makes the node-local directory of a run. It is new, or nothing
// happens: a directory that another user put there in advance is refused.
func makeScratch(root, id, host, nonce string) (string, error) {
	dir := filepath.Join(root, "aifb-"+id+"-"+word(host))
	if err := os.Mkdir(dir, 0o700); err != nil {
		if !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make scratch: %w; set TMPDIR to a node-local directory that you may write", err)
		}
		// A job that was requeued finds what its first start left.
		if err := run.RemoveOwned(dir, nonce); err != nil {
			return "", fmt.Errorf("make scratch: %w", err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", fmt.Errorf("make scratch: %w", err)
		}
	}
	if err := run.MarkOwned(dir, nonce); err != nil {
		return "", fmt.Errorf("make scratch: %w", err)
	}
	return dir, nil
}

// word makes a host name safe as a file name.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, s)
}
