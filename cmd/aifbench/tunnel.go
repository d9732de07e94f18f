package main

import (
	"net/url"
	"sort"
	"strconv"
	"strings"

	runs "aifbench/pkg/services/run"
)

// tunnels are the ssh lines to a ready run's door and user interfaces, from
// the site's login host.
func (a *app) tunnels(s siteOf, dir runs.Dir, r row) []string {
	out := []string{}
	if !r.Ready {
		return out
	}
	ep, err := dir.ReadEndpoint()
	if err != nil || ep.DoorURL == "" {
		return out
	}
	add := func(what, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return
		}
		line := tunnelLine(s.Site, a.hostname, u.Hostname(), port)
		out = append(out, line+"   # "+what)
	}
	add("door: send the key in "+dir.File(runs.KeyFile)+" as a bearer token", ep.DoorURL)
	keys := make([]string, 0, len(ep.Extra))
	for k := range ep.Extra {
		if strings.HasSuffix(k, "_url") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		u, err := url.Parse(ep.Extra[k])
		if err != nil || u.Port() == "" {
			continue
		}
		// User interfaces listen on the node's loopback: the tunnel must end there.
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			continue
		}
		out = append(out, loopbackTunnel(s.Site, a.hostname, ep.Node, port)+"   # "+strings.TrimSuffix(k, "_url"))
	}
	return out
}
