// Package phases owns the built-in engine: the twelve phases of IO500 and the
// random read, in their order, by real system calls on one locked thread a
// rank. It must not know how the data directory is owned, how a result is
// judged, or the files of the real IO500.
package phases

import (
	"fmt"
)

// Sizes fixed by the rules of IO500.
const (
	easyTransfer = 2 << 20 // ior-easy
	hardTransfer = 47008   // ior-hard
	hardFileSize = 3901    // mdtest-hard
	rndTransfer  = 4096    // ior-rnd4K
)

// Plan is what the engine is to do. It is pure: equal plans lay out equal files.
type Plan struct {
	Ranks      int
	StonewallS float64
	MaxBytes   int64
	MaxFiles   int64
	Direct     bool
	Seed       uint32
}

// Limits are the caps of one rank that follow from a plan.
type Limits struct {
	EasyTransfers int64 // 2 MiB transfers of ior-easy
	HardTransfers int64 // 47008-byte transfers of ior-hard
	EasyFiles     int64 // files of mdtest-easy
	HardFiles     int64 // files of mdtest-hard
}

// Limits divides the plan's bounds over phases and ranks: half of the files to
// either mdtest, the bytes that mdtest-hard leaves 5:3 to ior-easy and ior-hard.
func (p Plan) Limits() Limits {
	n := int64(p.Ranks)
	var l Limits
	// IOR's files, the directories and the time stamp count as files, too.
	files := p.MaxFiles - n - 8 - n
	l.EasyFiles = files / 2 / n
	l.HardFiles = files / 2 / n
	// A small file takes a block on most file systems.
	bytes := p.MaxBytes - l.HardFiles*n*4096
	l.EasyTransfers = bytes / 8 * 5 / n / easyTransfer
	l.HardTransfers = bytes / 8 * 3 / n / hardTransfer
	return l
}

// Validate reports a plan whose bounds leave a phase without work.
func (p Plan) Validate() error {
	if p.Ranks < 1 || p.Ranks > 1024 {
		return fmt.Errorf("%d ranks in one process; use 1..1024", p.Ranks)
	}
	l := p.Limits()
	if l.EasyFiles < 1 || l.HardFiles < 1 {
		return fmt.Errorf("max_files %d is too small for %d ranks; use at least %d", p.MaxFiles, p.Ranks, 4*p.Ranks+8)
	}
	if l.EasyTransfers < 1 || l.HardTransfers < 1 {
		need := int64(p.Ranks) * (easyTransfer*8/5 + 1 + l.HardFiles*4096)
		return fmt.Errorf("max_bytes %d is too small for %d ranks and %d small files each; use at least %d or fewer files", p.MaxBytes, p.Ranks, l.HardFiles, need+8)
	}
	return nil
}
