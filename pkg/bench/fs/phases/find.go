package phases

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stampPattern is what find looks for in a name: *01*.
var stampPattern = []byte("01")

// matching counts the files of one rank that find must match among items
// 0..n-1: the name holds 01, be it in the rank, the item or across the dot.
func matching(rank int, n int64) int64 {
	prefix := fileMD + strconv.Itoa(rank) + "."
	var out int64
	for i := range n {
		if strings.Contains(prefix+strconv.FormatInt(i, 10), "01") {
			out++
		}
	}
	return out
}

// timestamp makes the file that find compares with, and waits until files made
// afterwards are newer in the resolution of the file system.
func (e *Engine) timestamp(ctx context.Context) error {
	fd, err := openat(e.root, append([]byte(fileStamp), 0), flagsCreate, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", fileStamp, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", fileStamp, err)
	}
	e.stamp = st.Mtim
	t := time.NewTimer(e.coarse)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// search is the work list of the parallel find: directories still to be read.
type search struct {
	mu   sync.Mutex
	wake *sync.Cond
	dirs []string // relative to the root, "" for the root itself
	busy int      // ranks that read a directory and may find more
	root int
}

func newSearch(root int) *search {
	s := &search{dirs: []string{""}, root: root}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// take returns the next directory; ok is false when none is left and no rank
// can find another.
func (s *search) take() (dir string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.dirs) == 0 {
		if s.busy == 0 {
			return "", false
		}
		s.wake.Wait()
	}
	dir = s.dirs[len(s.dirs)-1]
	s.dirs = s.dirs[:len(s.dirs)-1]
	s.busy++
	return dir, true
}

func (s *search) add(dir string) {
	s.mu.Lock()
	s.dirs = append(s.dirs, dir)
	s.mu.Unlock()
	s.wake.Signal()
}

func (s *search) done() {
	s.mu.Lock()
	s.busy--
	s.mu.Unlock()
	s.wake.Broadcast()
}

// find scans the whole tree with all ranks: Ops counts the files seen, Matched
// those that are newer than the time stamp, 3901 bytes long and named *01*.
func (r *rank) find() error {
	s := r.e.search
	for {
		dir, ok := s.take()
		if !ok {
			return nil
		}
		err := r.scan(s, dir)
		s.done()
		if err != nil {
			return err
		}
	}
}

func (r *rank) scan(s *search, dir string) error {
	path := dir
	if path == "" {
		path = "."
	}
	fd, err := openat(s.root, append([]byte(path), 0), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		r.miss("open directory "+path, err)
		return nil
	}
	defer unix.Close(fd)
	for {
		if r.e.stop.Load() {
			return errStopped
		}
		n, err := unix.Getdents(fd, r.got[:1<<16])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			r.miss("read directory "+path, err)
			return nil
		}
		if n == 0 {
			return nil
		}
		for b := r.got[:n]; len(b) > 0; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			r.entry(s, fd, dir, b[:size])
			b = b[size:]
		}
		r.shown.Store(r.row.Ops)
	}
}

// entry judges one directory entry: inode 8, offset 8, length 2, type 1, name.
func (r *rank) entry(s *search, fd int, dir string, e []byte) {
	kind := e[18]
	end := bytes.IndexByte(e[19:], 0)
	if end < 0 {
		return
	}
	name := e[19 : 19+end+1] // with its zero
	if plain := string(name[:end]); plain == "." || plain == ".." {
		return
	}
	if kind == unix.DT_UNKNOWN {
		if err := statat(fd, name, &r.stat); err != nil {
			r.miss("stat "+dir+"/"+string(name[:end]), err)
			return
		}
		switch r.stat.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			kind = unix.DT_DIR
		case unix.S_IFREG:
			kind = unix.DT_REG
		}
	}
	if kind == unix.DT_DIR {
		sub := string(name[:end])
		if dir != "" {
			sub = dir + "/" + sub
		}
		s.add(sub)
		return
	}
	r.row.Ops++
	if kind != unix.DT_REG || !bytes.Contains(name[:end], stampPattern) {
		return
	}
	if err := statat(fd, name, &r.stat); err != nil {
		r.miss("stat "+dir+"/"+string(name[:end]), err)
		return
	}
	newer := r.stat.Mtim.Sec > r.e.stamp.Sec || r.stat.Mtim.Sec == r.e.stamp.Sec && r.stat.Mtim.Nsec > r.e.stamp.Nsec
	if newer && r.stat.Size == hardFileSize {
		r.row.Matched++
	}
}
