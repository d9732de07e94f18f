package node

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// nodeAddr is the address the door listens on: what the node's name means if
// that is an address of this machine, else the first address of a network
// interface, else loopback. Loopback alone serves a run of the local
// scheduler, since everything that asks for it is on the same machine.
func nodeAddr(ctx context.Context, names []string, localOnly bool) netip.Addr {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if localOnly {
		return loopback
	}
	mine := map[netip.Addr]bool{}
	var first netip.Addr
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return loopback
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			continue
		}
		mine[ip] = true
		if !first.IsValid() || (first.Is6() && ip.Is4()) {
			first = ip
		}
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		lookup, cancel := context.WithTimeout(ctx, 5*time.Second)
		ips, err := net.DefaultResolver.LookupNetIP(lookup, "ip", name)
		cancel()
		if err != nil {
			continue
		}
		for _, ip := range ips {
			if mine[ip.Unmap()] {
				return ip.Unmap()
			}
		}
	}
	if first.IsValid() {
		return first
	}
	return loopback
}
