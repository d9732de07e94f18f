package vector

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/metrics/figure"
)

// header makes the first 100 bytes of a SQLite file.
func header(page uint16, pages, free uint32) []byte {
	b := make([]byte, 100)
	copy(b, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(b[16:], page)
	binary.BigEndian.PutUint32(b[28:], pages)
	binary.BigEndian.PutUint32(b[36:], free)
	return b
}

func TestStoreHeader(t *testing.T) {
	t.Parallel()
	// The recorded life of a persist directory: 5,000 vectors, 372 pages of
	// 4096 bytes, 167 of them free.
	if got, err := parseStoreHeader(header(4096, 372, 167)); err != nil || got != 839680 {
		t.Errorf("%d %v", got, err)
	}
	if got, err := parseStoreHeader(header(1, 2, 0)); err != nil || got != 131072 {
		t.Errorf("page size 65536: %d %v", got, err)
	}
	for name, b := range map[string][]byte{
		"short": header(4096, 1, 0)[:99], "other file": make([]byte, 100), "page 0": header(0, 1, 0),
		"page 1000": header(1000, 1, 0), "more free than there are": header(4096, 1, 2),
	} {
		if _, err := parseStoreHeader(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzStoreHeader(f *testing.F) {
	f.Add(header(4096, 372, 167))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseStoreHeader(b); err == nil && n < 0 {
			t.Fatalf("%d bytes", n)
		}
	})
}

func TestLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	read := func() ledger {
		t.Helper()
		l, err := readLedger(dir)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	value := func(set figure.Set, name string) float64 {
		if v := set[name].Value; v != nil {
			return *v
		}
		return -1
	}
	const a, b = "c48669f2-f290-4ff4-b745-9e107039c2c1", "2766cd11-8189-4fac-ae95-a3205edd4780"
	write("chroma.sqlite3", header(4096, 46, 0))
	write(a+"/data_level0.bin", make([]byte, 65200)) // one that was there before
	write("not-a-segment/x", make([]byte, 10))
	before := read()
	write("chroma.sqlite3", header(4096, 372, 167))
	write(a+"/data_level0.bin", make([]byte, 99999)) // and grows: not ours
	set := figure.Set{}
	putDisk(set, dir, before, read(), nil, 5000, 1000)
	if r := set["index_bytes"].Reason; !strings.Contains(r, "no index directory appeared") {
		t.Errorf("reason %q", r)
	}
	write(b+"/data_level0.bin", make([]byte, 3260000))
	write(b+"/header.bin", make([]byte, 100))
	putDisk(set, dir, before, read(), nil, 5000, 1000)
	if value(set, "index_bytes") != 3260100 || value(set, "index_bytes_per_vector") != 652.02 || value(set, "store_growth_bytes") != (372-167-46)*4096 {
		t.Errorf("%v %v %v", value(set, "index_bytes"), value(set, "index_bytes_per_vector"), value(set, "store_growth_bytes"))
	}
	write("3766cd11-8189-4fac-ae95-a3205edd4780/header.bin", make([]byte, 1))
	putDisk(set, dir, before, read(), nil, 5000, 1000)
	if r := set["index_bytes"].Reason; !strings.Contains(r, "2 index directories") {
		t.Errorf("reason %q", r)
	}
	if _, err := readLedger(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent directory was read")
	}
	putDisk(set, "", ledger{}, ledger{}, nil, 1, 1)
	if f := set["store_growth_bytes"]; f.Value != nil || f.Reason == "" {
		t.Errorf("%+v", f)
	}
}
