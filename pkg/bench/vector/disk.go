package vector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"aifbench/pkg/metrics/figure"
)

// storeFile is the server's SQLite database in its persist directory.
const storeFile = "chroma.sqlite3"

// segmentName is the name of an index directory: the uuid of a collection's
// vector segment, which no API answer tells.
var segmentName = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ledger is what a persist directory holds at one moment.
type ledger struct {
	segments map[string]int64 // bytes of the files of each index directory
	store    int64            // bytes of pages in use
	storeErr error
}

// readLedger reads a persist directory without opening the database: sizes
// of files, and the page counts out of the database's first 100 bytes.
func readLedger(dir string) (ledger, error) {
	l := ledger{segments: map[string]int64{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return l, fmt.Errorf("read persist directory: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !segmentName.MatchString(e.Name()) {
			continue
		}
		size, err := treeBytes(filepath.Join(dir, e.Name()))
		if err != nil {
			return l, fmt.Errorf("read index directory: %w", err)
		}
		l.segments[e.Name()] = size
	}
	l.store, l.storeErr = storeBytes(filepath.Join(dir, storeFile))
	return l, nil
}

func treeBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced by a sync between the listing and the look
		}
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}

// storeBytes returns the bytes of pages in use of a SQLite file: (pages -
// free pages) x page size, from the header that the file format defines.
func storeBytes(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", storeFile, err)
	}
	var head [100]byte
	_, err = io.ReadFull(f, head[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("read %s: %w", storeFile, err)
	}
	return parseStoreHeader(head[:])
}

func parseStoreHeader(head []byte) (int64, error) {
	if len(head) < 100 || string(head[:16]) != "SQLite format 3\x00" {
		return 0, fmt.Errorf("read %s: not a SQLite database", storeFile)
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 65536
	}
	pages, free := int64(binary.BigEndian.Uint32(head[28:])), int64(binary.BigEndian.Uint32(head[36:]))
	if page < 512 || page&(page-1) != 0 || free > pages {
		return 0, fmt.Errorf("read %s: page size %d, %d pages, %d free make no sense", storeFile, page, pages, free)
	}
	return (pages - free) * page, nil
}

// putDisk records the figures of disk use between two ledgers.
func putDisk(set figure.Set, dir string, before, after ledger, err error, rows, sync int64) {
	null := func(reason string) {
		set.PutNull("index_bytes", reason, 0)
		set.PutNull("index_bytes_per_vector", reason, 0)
	}
	switch {
	case dir == "":
		null("the persist directory of the server is not known here")
		set.PutNull("store_growth_bytes", "the persist directory of the server is not known here", 0)
		return
	case err != nil:
		null(err.Error())
		set.PutNull("store_growth_bytes", err.Error(), 0)
		return
	}
	var fresh []int64
	for name, size := range after.segments {
		if _, old := before.segments[name]; !old {
			fresh = append(fresh, size)
		}
	}
	switch {
	case len(fresh) == 0:
		null("no index directory appeared during the insert phase")
	case len(fresh) > 1:
		null(fmt.Sprintf("%d index directories appeared during the insert phase: another client creates collections", len(fresh)))
	default:
		how := "sizes of the files of the index directory"
		if sync > 0 {
			how += fmt.Sprintf(", as of the last sync (every %d vectors)", sync)
		}
		set.Put("index_bytes", float64(fresh[0]), 1, how)
		if rows > 0 {
			set.Put("index_bytes_per_vector", float64(fresh[0])/float64(rows), rows, how)
		} else {
			set.PutNull("index_bytes_per_vector", "the collection has no record", 0)
		}
	}
	if err := errors.Join(before.storeErr, after.storeErr); err != nil {
		set.PutNull("store_growth_bytes", err.Error(), 0)
		return
	}
	set.Put("store_growth_bytes", float64(after.store-before.store), 1, "page counts of the header of "+storeFile)
}
