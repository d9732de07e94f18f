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
	if err := makeOwned(dir, nonce); err != nil {
		return "", fmt.Errorf("make scratch: %w; set TMPDIR to a node-local directory that you may write", err)
	}
	return dir, nil
}

// Servers put sockets into TMPDIR, often under a name of 36 characters, and
// the path of a socket ends at 107 bytes.
const tempPathLimit = 107 - 1 - 40

// makeTemp makes the engines' TMPDIR, so that what they leave goes with the
// run: inside scratch, or beside it under a short name where sockets would not
// fit. Several nodes may share the short place, hence the rank.
func makeTemp(scratch, nonce string, rank int) (string, error) {
	dir := filepath.Join(scratch, "tmp")
	if len(dir) > tempPathLimit {
		dir = fmt.Sprintf("/tmp/aifb-%s-%d", nonce, rank)
	}
	if err := makeOwned(dir, nonce); err != nil {
		return "", fmt.Errorf("make directory for temporary files: %w", err)
	}
	return dir, nil
}

// makeOwned makes a directory that is the run's own.
func makeOwned(dir, nonce string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		// A job that was requeued finds what its first start left.
		if err := run.RemoveOwned(dir, nonce); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	return run.MarkOwned(dir, nonce)
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
