package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/metrics/archive"
)

var formats = []archive.Format{archive.Zip, archive.TarZst, archive.TarGz}

func members() []archive.Member {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	return []archive.Member{
		archive.Bytes("result.json", []byte("{}\n")),
		archive.Bytes("logs/engine.out", big),
		archive.Bytes("empty", nil),
		archive.Bytes("name with ü.txt", []byte("x")),
	}
}

func bundle(t *testing.T, f archive.Format, m []archive.Member, s archive.Secrets) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := archive.Bundle(t.Context(), &buf, f, m, archive.Meta{ToolVersion: "1.2.3", Run: "r", Service: "vllm"}, s); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFormatOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]archive.Format{
		"a.zip": archive.Zip, "A.ZIP": archive.Zip, "/x/y.tar.zst": archive.TarZst, "a.tzst": archive.TarZst,
		"a.tar.gz": archive.TarGz, "a.tgz": archive.TarGz, "a.b.zip": archive.Zip,
	} {
		if got, err := archive.FormatOf(name); err != nil || got != want {
			t.Errorf("FormatOf(%q) = %v, %v, want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "a", "zip", ".zip", "dir/.zip", "a.zip/", "a.tar", "a.gz", "a.rar", "a.zipx", "a.tar.zst.bak"} {
		if got, err := archive.FormatOf(name); !errors.Is(err, archive.ErrFormat) {
			t.Errorf("FormatOf(%q) = %v, %v, want ErrFormat", name, got, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			data := bundle(t, f, members(), archive.Secrets{})
			dir := filepath.Join(t.TempDir(), "out")
			m, err := archive.Unbundle(t.Context(), bytes.NewReader(data), f, dir, archive.DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if m.ToolVersion != "1.2.3" || m.Run != "r" || len(m.Members) != 4 {
				t.Errorf("manifest %+v", m)
			}
			for _, want := range members() {
				rc, err := want.Open()
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(rc)
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join(dir, want.Name))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, content) {
					t.Errorf("%s differs", want.Name)
				}
				info, err := os.Stat(filepath.Join(dir, want.Name))
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v, %v", want.Name, info.Mode(), err)
				}
				sum := sha256.Sum256(content)
				for _, e := range m.Members {
					if e.Name == want.Name && (e.SHA256 != hex.EncodeToString(sum[:]) || e.SizeBytes != int64(len(content)) || e.Mode != "0600") {
						t.Errorf("entry %+v", e)
					}
				}
			}
			if _, err := os.Stat(filepath.Join(dir, archive.ManifestName)); err != nil {
				t.Error(err)
			}
			if _, err := archive.Verify(t.Context(), bytes.NewReader(data), f, archive.DefaultLimits); err != nil {
				t.Error(err)
			}
			if _, err := archive.Unbundle(t.Context(), bytes.NewReader(data), f, dir, archive.DefaultLimits); !errors.Is(err, fs.ErrExist) {
				t.Errorf("unpacking over files gave %v", err)
			}
		})
	}
}

// Other people's tools must read what we write: the standard library stands in
// for unzip and tar.
func TestReadByOthers(t *testing.T) {
	t.Parallel()
	data := bundle(t, archive.Zip, members(), archive.Secrets{})
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range zr.File {
		names = append(names, f.Name)
		if !f.Mode().IsRegular() || f.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
	want := []string{"MANIFEST.json", "empty", "logs/engine.out", "name with ü.txt", "result.json"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	gz, err := gzip.NewReader(bytes.NewReader(bundle(t, archive.TarGz, members(), archive.Secrets{})))
	if err != nil {
		t.Fatal(err)
	}
	names = nil
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uname != "" || h.Gname != "" || h.Uid != 0 {
			t.Errorf("%s tells the owner: %q %q %d", h.Name, h.Uname, h.Gname, h.Uid)
		}
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		m := members()
		reversed := []archive.Member{m[3], m[2], m[1], m[0]}
		if !bytes.Equal(bundle(t, f, m, archive.Secrets{}), bundle(t, f, reversed, archive.Secrets{})) {
			t.Errorf("%s: the order of members changes the bytes", f)
		}
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	m := append(members(), archive.Bytes("key", []byte("super-secret-key-0001")))
	secrets := archive.Secrets{Deny: func(name string) bool { return name == "key" }, Strings: [][]byte{[]byte("super-secret-key-0001")}}
	for _, f := range formats {
		data := bundle(t, f, m, secrets)
		got, err := archive.Verify(t.Context(), bytes.NewReader(data), f, archive.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if got.Excluded != 1 || len(got.Members) != 4 {
			t.Errorf("%s: %+v", f, got)
		}
	}
}

// slow gives its contents in pieces of one byte, so that a secret always lies
// across reads.
type slow struct{ r io.Reader }

func (s slow) Read(p []byte) (int, error) { return s.r.Read(p[:min(1, len(p))]) }
func (s slow) Close() error               { return nil }

func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	secret := "aK3y-with+odd/\"chars\"-42"
	pad := strings.Repeat("x", 32*1024-7) // the secret lies across io.Copy's buffer
	for name, content := range map[string]string{
		"plain":         "token=" + secret + "\n",
		"at the start":  secret + "tail",
		"at the end":    "head" + secret,
		"over a border": pad + secret + pad,
		"json":          `{"k":"aK3y-with+odd/\"chars\"-42"}`,
		"url":           "http://h/?k=aK3y-with%2Bodd%2F%22chars%22-42",
		"basic auth 0":  "Basic " + base64.StdEncoding.EncodeToString([]byte("abc"+secret)),
		"basic auth 1":  "Basic " + base64.StdEncoding.EncodeToString([]byte("user"+secret)),
		"basic auth 2":  "Basic " + base64.StdEncoding.EncodeToString([]byte("admin"+secret+"!")),
		"base64url":     base64.URLEncoding.EncodeToString([]byte("~~~" + secret)),
	} {
		for _, chunked := range []bool{false, true} {
			m := archive.Member{Name: "logs/engine.err", Open: func() (io.ReadCloser, error) {
				if chunked {
					return slow{strings.NewReader(content)}, nil
				}
				return io.NopCloser(strings.NewReader(content)), nil
			}}
			var buf bytes.Buffer
			_, err := archive.Bundle(t.Context(), &buf, archive.Zip, append(members(), m), archive.Meta{}, archive.Secrets{Strings: [][]byte{[]byte(secret + "\n")}})
			var found *archive.SecretError
			if !errors.As(err, &found) || found.Member != "logs/engine.err" {
				t.Errorf("%s (chunked %v): got %v", name, chunked, err)
				continue
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells the secret", name)
			}
			if buf.Len() != 0 {
				t.Errorf("%s: %d bytes were written before the refusal", name, buf.Len())
			}
		}
	}
	// No false alarm, and the name of a member counts as content.
	bundle(t, archive.Zip, members(), archive.Secrets{Strings: [][]byte{[]byte(secret), nil, []byte(" ")}})
	_, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, []archive.Member{archive.Bytes("hf_0123456789", nil)}, archive.Meta{}, archive.Secrets{Strings: [][]byte{[]byte("hf_0123456789")}})
	var found *archive.SecretError
	if !errors.As(err, &found) {
		t.Errorf("a secret as a name gave %v", err)
	}
	if _, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, members(), archive.Meta{}, archive.Secrets{Strings: [][]byte{[]byte("short")}}); err == nil {
		t.Error("a secret of five bytes was searched for")
	}
}

func TestChangedWhileArchiving(t *testing.T) {
	t.Parallel()
	reads := func(first, second string) archive.Member {
		n := 0
		return archive.Member{Name: "log", Open: func() (io.ReadCloser, error) {
			n++
			if n == 1 {
				return io.NopCloser(strings.NewReader(first)), nil
			}
			return io.NopCloser(strings.NewReader(second)), nil
		}}
	}
	for _, f := range formats {
		data := bundle(t, f, []archive.Member{reads("line 1\n", "line 1\nline 2\n")}, archive.Secrets{})
		m, err := archive.Verify(t.Context(), bytes.NewReader(data), f, archive.DefaultLimits)
		if err != nil || m.Members[0].SizeBytes != 7 {
			t.Errorf("%s: a growing log gave %+v, %v", f, m, err)
		}
		for name, member := range map[string]archive.Member{"shrunk": reads("line 1\n", "line"), "rewritten": reads("line 1\n", "LINE 1\n"), "emptied": reads("x", "")} {
			if _, err := archive.Bundle(t.Context(), io.Discard, f, []archive.Member{member}, archive.Meta{}, archive.Secrets{}); err == nil || !strings.Contains(err.Error(), "changed") {
				t.Errorf("%s: a %s file gave %v", f, name, err)
			}
		}
	}
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "/abs", "../x", "a/../b", "a//b", "a/", "./a", `a\b`, "a\x00b", "a\nb", "bad\xff", archive.ManifestName, strings.Repeat("a", 2000)} {
		if _, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, []archive.Member{archive.Bytes(name, nil)}, archive.Meta{}, archive.Secrets{}); err == nil {
			t.Errorf("member name %q was taken", name)
		}
	}
	twice := []archive.Member{archive.Bytes("a", nil), archive.Bytes("a", nil)}
	if _, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, twice, archive.Meta{}, archive.Secrets{}); err == nil {
		t.Error("a name was taken twice")
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	m, err := archive.File("f", path)
	if err != nil || m.Mode != 0o640 {
		t.Fatalf("%+v, %v", m, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{link, dir, filepath.Join(dir, "none")} {
		if _, err := archive.File("f", p); err == nil {
			t.Errorf("%s was taken", p)
		}
	}
	// A link that takes the file's place after the look is refused on opening.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Bundle(t.Context(), io.Discard, archive.Zip, []archive.Member{m}, archive.Meta{}, archive.Secrets{}); err == nil {
		t.Error("a planted link was followed")
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "run.zip")
	save := func(force bool, s archive.Secrets) error {
		_, err := archive.Save(t.Context(), path, archive.Zip, members(), archive.Meta{}, s, force)
		return err
	}
	leak := archive.Secrets{Strings: [][]byte{[]byte("0123456789abcdef")}}
	var found *archive.SecretError
	if err := save(false, leak); !errors.As(err, &found) {
		t.Fatalf("a leak gave %v", err)
	}
	only(t, dir)
	if err := save(false, archive.Secrets{}); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "run.zip")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := save(false, archive.Secrets{}); !errors.Is(err, archive.ErrExists) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("an existing archive gave %v", err)
	}
	if err := save(true, leak); err == nil {
		t.Error("a leak was forced")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("a failed save changed the archive that was there")
	}
	if err := save(true, archive.Secrets{}); err != nil {
		t.Error(err)
	}
	only(t, dir, "run.zip")
	if _, err := archive.Save(t.Context(), filepath.Join(dir, "none", "a.zip"), archive.Zip, members(), archive.Meta{}, archive.Secrets{}, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory gave %v", err)
	}
}

// Of many shells that save under one name, one wins and the others are told.
func TestSaveRace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	errs := make(chan error)
	for i := range 8 {
		go func() {
			m := []archive.Member{archive.Bytes("who", fmt.Append(nil, i))}
			_, err := archive.Save(context.Background(), filepath.Join(dir, "a.zip"), archive.Zip, m, archive.Meta{}, archive.Secrets{}, false)
			errs <- err
		}()
	}
	won := 0
	for range 8 {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, archive.ErrExists):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d saves won", won)
	}
	only(t, dir, "a.zip")
}

// full fails after n bytes, like a disk; the library drops such an error when
// it comes while it closes the container.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errors.New("no space left on device")
	}
	f.left -= len(p)
	return len(p), nil
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		whole := len(bundle(t, f, members(), archive.Secrets{}))
		for _, room := range []int{0, 1, whole / 2, whole - 1} {
			_, err := archive.Bundle(t.Context(), &full{room}, f, members(), archive.Meta{ToolVersion: "1.2.3", Run: "r", Service: "vllm"}, archive.Secrets{})
			if err == nil || !strings.Contains(err.Error(), "no space") {
				t.Errorf("%s with room for %d of %d bytes gave %v", f, room, whole, err)
			}
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range formats {
		if _, err := archive.Bundle(ctx, io.Discard, f, members(), archive.Meta{}, archive.Secrets{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", f, err)
		}
	}
}

func TestOldStamp(t *testing.T) {
	t.Parallel()
	m := archive.Bytes("a", []byte("x"))
	m.ModTime = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	bundle(t, archive.Zip, []archive.Member{m}, archive.Secrets{})
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("litter in %s: %s", dir, diff)
	}
}
