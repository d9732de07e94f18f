package node

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000 20 4 30 10 -1
`

const tcp6Table = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 99 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 98 1 0 100 0 0 10 0
`

func TestParseListeners(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want []string
		uids []int
	}{
		{tcpTable, []string{"127.0.0.1:8080", "0.0.0.0:22"}, []int{1000, 0}},
		{tcp6Table, []string{"[::1]:80", "127.0.0.1:81"}, []int{7, 7}},
		{"head only\n", nil, nil},
	} {
		got, err := parseListeners([]byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		var addrs []string
		var uids []int
		for _, l := range got {
			addrs, uids = append(addrs, l.addr.String()), append(uids, l.uid)
		}
		if d := cmp.Diff(tc.want, addrs) + cmp.Diff(tc.uids, uids); d != "" {
			t.Error(d)
		}
	}
	for _, bad := range []string{"h\n0: 1:2\n", "h\n" + strings.Replace(strings.SplitN(tcpTable, "\n", 3)[1], "0100007F", "01", 1)} {
		if l, err := parseListeners([]byte(bad)); err == nil {
			t.Errorf("%q gives %v", bad, l)
		}
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add([]byte(tcpTable))
	f.Add([]byte(tcp6Table))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ls, _ := parseListeners(raw)
		for _, l := range ls {
			if !l.addr.IsValid() {
				t.Errorf("an address that is none from %q", raw)
			}
		}
	})
}

func TestHolder(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if h := holder(port, os.Getpid()); h != heldByUs {
		t.Errorf("our own listener: %d", h)
	}
	if h := holder(port, 1<<30); h != heldByOther {
		t.Errorf("as another process sees it: %d", h)
	}
	ln.Close()
	// A child that another test forks holds a copy until it execs.
	h := holder(port, os.Getpid())
	for end := time.Now().Add(10 * time.Second); h != heldByNobody && time.Now().Before(end); h = holder(port, os.Getpid()) {
		time.Sleep(time.Millisecond)
	}
	if h != heldByNobody {
		t.Errorf("closed: %d", h)
	}
}

func TestSplitCPUs(t *testing.T) {
	t.Parallel()
	allowed := []int{0, 1, 2, 3, 8, 9}
	for _, tc := range []struct{ load, engines, got, err string }{
		{"", "", "", ""},
		{"2", "0-3", "8-9", ""},
		{"8-9", "0-3", "8-9", ""},
		{"0,2", "1,3,8-9", "0,2", ""},
		{"1-1", "0,2-3,8-9", "1", ""},
		{"6", "", "", "leaves none"},
		{"0", "", "", "leaves none"},
		{"4-5", "", "", "CPU 4 is not in the allocation (0-3,8-9)"},
		{"0-3,8-9", "", "", "leaves no CPU"},
		{"3-1", "", "", "not a list"},
		{"a,b", "", "", "not a list"},
		{"0-99999999", "", "", "not a list"},
	} {
		s, err := splitCPUs(tc.load, allowed)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %v", tc.load, err)
			}
			continue
		}
		if err != nil || listCPUs(s.engines) != tc.engines || listCPUs(s.load) != tc.got {
			t.Errorf("%q: engines %v, load %v, %v", tc.load, s.engines, s.load, err)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-2,6")
	f.Add("1,,2")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseCPUs(s)
		if err != nil {
			return
		}
		again, err := parseCPUs(listCPUs(got))
		if err != nil || !cmp.Equal(got, again) {
			t.Errorf("%q: %v, again %v, %v", s, got, again, err)
		}
	})
}
