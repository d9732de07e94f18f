package chroma

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// snapshot writes the vectors to the persist directory each time another
// sync_threshold of them has come, as Chroma syncs; c.mu is held. The files
// have the names of Chroma's and a format of their own: the vectors as
// little-endian float32, and their number.
func (c *collection) snapshot() error {
	if c.dir == "" {
		return nil
	}
	threshold := max(c.hnsw.SyncThreshold, 1)
	whole := len(c.ids) / threshold * threshold
	if whole == c.saved {
		return nil
	}
	dir := filepath.Join(c.dir, c.segment)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	raw := make([]byte, 0, 4*whole*c.dim)
	for _, v := range c.flat[:whole*c.dim] {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	head := binary.LittleEndian.AppendUint64(nil, uint64(c.dim))
	head = binary.LittleEndian.AppendUint64(head, uint64(whole))
	for name, data := range map[string][]byte{"data_level0.bin": raw, "header.bin": head} {
		if err := replaceFile(filepath.Join(dir, name), data); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	c.saved = whole
	return nil
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
