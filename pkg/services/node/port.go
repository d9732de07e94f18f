package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"aifbench/pkg/metrics/probe"
)

// freePort asks the kernel for a port nobody listens on at host. It may be
// taken before the engine binds it; holder finds that out.
func freePort(host string) (int, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer ln.Close()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("find free port: not a TCP address")
	}
	return addr.Port, nil
}

// listener is one listening TCP socket of /proc/net/tcp or tcp6.
type listener struct {
	addr  netip.AddrPort
	uid   int
	inode uint64
}

// parseListeners reads /proc/net/tcp or /proc/net/tcp6 and keeps what listens.
func parseListeners(raw []byte) ([]listener, error) {
	var out []listener
	for i, line := range strings.Split(string(raw), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) == 0 {
			continue
		}
		if len(f) < 10 {
			return nil, fmt.Errorf("parse tcp table: line %d: %d fields", i+1, len(f))
		}
		if f[3] != "0A" {
			continue
		}
		addr, err := parseHexAddr(f[1])
		if err != nil {
			return nil, fmt.Errorf("parse tcp table: line %d: %w", i+1, err)
		}
		uid, err1 := strconv.ParseUint(f[7], 10, 32)
		inode, err2 := strconv.ParseUint(f[9], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("parse tcp table: line %d: uid or inode is not a number", i+1)
		}
		out = append(out, listener{addr: addr, uid: int(uid), inode: inode})
	}
	return out, nil
}

// parseHexAddr reads 0100007F:1F90: words of four bytes in the machine's
// order (little-endian on all this program is built for), port in hexadecimal.
func parseHexAddr(s string) (netip.AddrPort, error) {
	ip, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(ip)
	if !ok || err != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, fmt.Errorf("%.60q is not an address", s)
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.60q is not an address", s)
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), nil
}

// holding says who listens on a loopback port.
type holding int

const (
	heldByNobody holding = iota
	heldByUs
	heldByOther
	heldUnknown // by this user, and no process that could be asked has it
)

// holder finds out whether the process group, or a descendant of its leader,
// listens on the port. The key is sent to nobody else: between the choice of a
// port and the engine's bind, another user of the node may have taken it.
func holder(port, leader int) holding {
	var found []listener
	for _, name := range []string{"tcp", "tcp6"} {
		raw, err := os.ReadFile(filepath.Join("/proc/net", name))
		if err != nil {
			continue
		}
		all, err := parseListeners(raw)
		if err != nil {
			continue
		}
		for _, l := range all {
			if int(l.addr.Port()) == port && (l.addr.Addr().IsLoopback() || l.addr.Addr().IsUnspecified()) {
				found = append(found, l)
			}
		}
	}
	if len(found) == 0 {
		return heldByNobody
	}
	inodes := map[string]bool{}
	for _, l := range found {
		if l.uid != os.Geteuid() {
			return heldByOther
		}
		inodes[fmt.Sprintf("socket:[%d]", l.inode)] = true
	}
	return owner(inodes, leader)
}

// owner looks for the sockets among the descriptors of all processes that may
// be read.
func owner(inodes map[string]bool, leader int) holding {
	stats := map[int]probe.PidStat{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return heldUnknown
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		if st, err := probe.ParsePidStat(raw); err == nil {
			stats[pid] = st
		}
	}
	result := heldUnknown
	for pid, st := range stats {
		if !hasSocket(pid, inodes) {
			continue
		}
		if st.PGID == leader || descends(stats, pid, leader) {
			return heldByUs
		}
		result = heldByOther
	}
	return result
}

func descends(stats map[int]probe.PidStat, pid, leader int) bool {
	for range 64 { // deeper than any real tree
		if pid == leader {
			return true
		}
		st, ok := stats[pid]
		if !ok || st.PPID <= 1 {
			return false
		}
		pid = st.PPID
	}
	return false
}

func hasSocket(pid int, inodes map[string]bool) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && inodes[link] {
			return true
		}
	}
	return false
}
