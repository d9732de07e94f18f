package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/metrics/archive"
)

// entry is one hostile entry; kind is a tar type flag.
type entry struct {
	name, content, link string
	mode                int64
	kind                byte
}

func manifestOf(entries ...entry) string {
	m := archive.Manifest{SchemaVersion: 1, Tool: "aifbench", Members: []archive.Entry{}}
	for _, e := range entries {
		sum := sha256.Sum256([]byte(e.content))
		m.Members = append(m.Members, archive.Entry{Name: e.name, SizeBytes: int64(len(e.content)), Mode: "0600", SHA256: hex.EncodeToString(sum[:])})
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func tarGz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o600
		}
		h := &tar.Header{Name: e.name, Mode: e.mode, Typeflag: e.kind, Linkname: e.link}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.content))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := io.WriteString(tw, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zipped(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(0o600)
		if e.kind == tar.TypeSymlink {
			mode |= fs.ModeSymlink
		}
		h.SetMode(mode)
		w, err := zw.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestHostile(t *testing.T) {
	t.Parallel()
	good := entry{name: "a", content: "hello"}
	manifest := func(e ...entry) entry { return entry{name: archive.ManifestName, content: manifestOf(e...)} }
	cases := map[string]struct {
		entries []entry
		unsafe  bool
		tarOnly bool
	}{
		"dot dot":                {entries: []entry{manifest(good), {name: "../evil", content: "x"}}, unsafe: true},
		"dot dot inside":         {entries: []entry{manifest(good), {name: "a/../../evil", content: "x"}}, unsafe: true},
		"absolute":               {entries: []entry{manifest(good), {name: "/tmp/evil", content: "x"}}, unsafe: true},
		"backslash":              {entries: []entry{manifest(good), {name: `..\evil`, content: "x"}}, unsafe: true},
		"dot dot as manifest":    {entries: []entry{{name: "../MANIFEST.json", content: manifestOf()}}, unsafe: true},
		"listed dot dot":         {entries: []entry{manifest(entry{name: "../evil", content: "x"}), {name: "../evil", content: "x"}}},
		"symbolic link":          {entries: []entry{manifest(good), {name: "a", kind: tar.TypeSymlink, link: "/etc", content: "/etc"}}, unsafe: true},
		"hard link":              {entries: []entry{manifest(good), {name: "a", kind: tar.TypeLink, link: "/etc/passwd"}}, unsafe: true, tarOnly: true},
		"device":                 {entries: []entry{manifest(good), {name: "a", kind: tar.TypeChar}}, unsafe: true, tarOnly: true},
		"fifo":                   {entries: []entry{manifest(good), {name: "a", kind: tar.TypeFifo}}, unsafe: true, tarOnly: true},
		"set-id":                 {entries: []entry{manifest(good), {name: "a", content: "hello", mode: 0o4755}}, unsafe: true, tarOnly: true},
		"directory":              {entries: []entry{manifest(good), {name: "d/", kind: tar.TypeDir}}, unsafe: true, tarOnly: true},
		"no manifest":            {entries: []entry{good}},
		"nothing":                {},
		"manifest is a link":     {entries: []entry{{name: archive.ManifestName, kind: tar.TypeSymlink, link: "/etc/passwd", content: "/etc/passwd"}}, unsafe: true},
		"manifest is no JSON":    {entries: []entry{{name: archive.ManifestName, content: "hello"}}},
		"manifest twice":         {entries: []entry{manifest(good), manifest(good), good}},
		"unlisted":               {entries: []entry{manifest(good), good, {name: "b", content: "x"}}},
		"twice":                  {entries: []entry{manifest(good), good, good}},
		"missing":                {entries: []entry{manifest(good)}},
		"other content":          {entries: []entry{manifest(good), {name: "a", content: "hellO"}}},
		"longer":                 {entries: []entry{manifest(good), {name: "a", content: "hello, world"}}},
		"shorter":                {entries: []entry{manifest(good), {name: "a", content: "hell"}}},
		"too large":              {entries: []entry{manifest(entry{name: "a", content: strings.Repeat("a", 2000)}), {name: "a", content: strings.Repeat("a", 2000)}}, unsafe: true},
		"too large all together": {entries: []entry{manifest(entry{name: "a", content: strings.Repeat("a", 900)}, entry{name: "b", content: strings.Repeat("a", 900)}), {name: "a", content: strings.Repeat("a", 900)}, {name: "b", content: strings.Repeat("a", 900)}}, unsafe: true},
		"too many": {entries: []entry{
			manifest(entry{name: "a"}, entry{name: "b"}, entry{name: "c"}, entry{name: "d"}),
			{name: "a"},
			{name: "b"},
			{name: "c"},
			{name: "d"},
		}, unsafe: true},
		"file where a directory is": {entries: []entry{manifest(entry{name: "a/b", content: "x"}, entry{name: "a", content: "x"}), {name: "a/b", content: "x"}, {name: "a", content: "x"}}},
	}
	limits := archive.Limits{Members: 4, MemberBytes: 1000, TotalBytes: 1500}
	for name, c := range cases {
		for _, f := range []archive.Format{archive.TarGz, archive.Zip} {
			if c.tarOnly && f == archive.Zip {
				continue
			}
			t.Run(name+" "+string(f), func(t *testing.T) {
				t.Parallel()
				data := tarGz(t, c.entries...)
				if f == archive.Zip {
					data = zipped(t, c.entries...)
				}
				parent := t.TempDir()
				_, err := archive.Unbundle(t.Context(), bytes.NewReader(data), f, filepath.Join(parent, "in", "out"), limits)
				if err == nil {
					t.Fatal("it was unpacked")
				}
				var unsafe *archive.UnsafeError
				if errors.As(err, &unsafe) != c.unsafe {
					t.Errorf("got %v, unsafe wanted %v", err, c.unsafe)
				}
				outside(t, parent)
			})
		}
	}
}

// outside fails when anything but in/out/... exists below dir, or a link does.
func outside(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if rel != "." && rel != "in" && !strings.HasPrefix(rel, "in/out") || d.Type()&fs.ModeSymlink != 0 {
			t.Errorf("%s was written", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat("/tmp/evil"); err == nil {
		t.Error("/tmp/evil was written")
	}
}

// Broken bytes of each format: errors, no panic, no endless reading.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		whole := bundle(t, f, members(), archive.Secrets{})
		for _, n := range []int{0, 1, 10, len(whole) / 3, len(whole) / 2} {
			if _, err := archive.Verify(t.Context(), bytes.NewReader(whole[:n]), f, archive.DefaultLimits); err == nil {
				t.Errorf("%s: %d of %d bytes were accepted", f, n, len(whole))
			}
		}
		flipped := bytes.Clone(whole)
		flipped[len(flipped)/2] ^= 0x40
		if _, err := archive.Verify(t.Context(), bytes.NewReader(flipped), f, archive.DefaultLimits); err == nil {
			t.Errorf("%s: a flipped bit was accepted", f)
		}
	}
}

// A few bytes of zstd that ask for a window of 256 MiB (descriptor 0x90), which
// the library would allow, are refused, not allocated.
func TestZstdWindow(t *testing.T) {
	t.Parallel()
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90, 0x01, 0x00, 0x00}
	if _, err := archive.Verify(t.Context(), bytes.NewReader(frame), archive.TarZst, archive.DefaultLimits); err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("got %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	good := entry{name: "a", content: "hello"}
	var buf bytes.Buffer
	if _, err := archive.Bundle(f.Context(), &buf, archive.Zip, members()[:1], archive.Meta{}, archive.Secrets{}); err != nil {
		f.Fatal(err)
	}
	f.Add(0, buf.Bytes())
	buf.Reset()
	if _, err := archive.Bundle(f.Context(), &buf, archive.TarZst, members()[:1], archive.Meta{}, archive.Secrets{}); err != nil {
		f.Fatal(err)
	}
	f.Add(1, buf.Bytes())
	f.Add(2, []byte(manifestOf(good)))
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		format := formats[uint(which)%3]
		m, err := archive.Verify(t.Context(), bytes.NewReader(data), format, archive.Limits{Members: 100, MemberBytes: 1 << 20, TotalBytes: 1 << 20})
		if err == nil && m == nil {
			t.Fatal("neither manifest nor error")
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(manifestOf(entry{name: "a", content: "x"})))
	f.Add([]byte(`{"schema_version":1,"members":[{"name":"../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := archive.DecodeManifest(data)
		if err != nil {
			return
		}
		for _, e := range m.Members {
			if strings.Contains(e.Name, "..") && !fs.ValidPath(e.Name) || strings.HasPrefix(e.Name, "/") {
				t.Fatalf("unsafe name %q", e.Name)
			}
		}
	})
}
