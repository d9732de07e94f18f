package phases

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// fill writes IOR's pattern of packet type "timestamp": word i of a transfer
// is rank<<32 | (seed + i), the bytes after the last whole word count upwards
// from their index. Every transfer of a rank is the same, as in IOR.
func fill(buf []byte, seed uint32, rank int) {
	words := len(buf) / 8
	for i := range words {
		binary.LittleEndian.PutUint64(buf[8*i:], uint64(rank)<<32|(uint64(seed)+uint64(i)))
	}
	for i := words * 8; i < len(buf); i++ {
		buf[i] = byte(i)
	}
}

// spoil changes a word of every page, so that a transfer that delivered
// nothing cannot pass for the one before it.
func spoil(buf []byte) {
	for i := 0; i < len(buf); i += 4096 {
		buf[i] = ^buf[i]
	}
}

// differs returns the index of the first byte in which got is not want, or -1.
func differs(got, want []byte) int {
	if bytes.Equal(got, want) {
		return -1
	}
	for i := range got {
		if got[i] != want[i] {
			return i
		}
	}
	return len(got)
}

// arena is anonymous memory: aligned to a page as O_DIRECT needs it, and
// outside the garbage collector's heap.
func arena(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}
