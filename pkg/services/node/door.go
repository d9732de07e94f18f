package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// Limits of the door. Bodies are as large as the largest that an engine takes.
const (
	doorHeaderTimeout = 10 * time.Second
	doorIdleTimeout   = 2 * time.Minute
	doorHeaderBytes   = 64 << 10
	doorBodyBytes     = 256 << 20
	doorConns         = 4096
)

// door is the only port of a run that other nodes reach. Every path wants the
// run's key.
type door struct {
	s      *supervisor
	ln     net.Listener
	srv    *http.Server
	served chan error
	// tunnels are the connections that left the HTTP server.
	tunnels *tunnels
}

func (s *supervisor) openDoor() (*door, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(s.doorAddr, "0"))
	if err != nil {
		return nil, fmt.Errorf("open door: %w", err)
	}
	d := &door{s: s, ln: &limited{Listener: ln, free: make(chan struct{}, doorConns)}, served: make(chan error, 1), tunnels: newTunnels()}
	d.srv = &http.Server{
		Handler:           d,
		ReadHeaderTimeout: doorHeaderTimeout,
		IdleTimeout:       doorIdleTimeout,
		MaxHeaderBytes:    doorHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	go func() { d.served <- d.srv.Serve(d.ln) }()
	return d, nil
}

func (d *door) url() string { return "http://" + d.ln.Addr().String() }

// close ends the listener and every connection, and waits.
func (d *door) close() error {
	err := d.srv.Close()
	d.tunnels.close()
	if serr := <-d.served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// ServeHTTP checks the key before it looks at anything else, so that a
// stranger learns nothing, not even which paths there are.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !keyed(r, d.s.key) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, doorBodyBytes)
	path := r.URL.EscapedPath()
	switch {
	case path == "/metrics":
		d.metrics(w, r)
	case path == "/-/healthy":
		w.WriteHeader(http.StatusNoContent)
	case path == tunnelPath:
		d.tunnel(w, r)
	case strings.HasPrefix(path, "/otlp/"):
		d.otlp(w, r, strings.TrimPrefix(path, "/otlp"))
	case path == "/engine" || strings.HasPrefix(path, "/engine/"):
		d.engine(w, r, strings.TrimPrefix(path, "/engine"))
	default:
		http.NotFound(w, r)
	}
}

// keyed checks the bearer token in constant time.
func keyed(r *http.Request, key string) bool {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return ok && strings.EqualFold(scheme, "Bearer") && run.KeyMatches(key, strings.TrimSpace(token))
}

func (d *door) metrics(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	sample := d.s.sampler.latest()
	if sample == nil {
		http.Error(w, "no sample yet", http.StatusServiceUnavailable)
		return
	}
	var b bytes.Buffer
	if err := probe.WriteText(&b, *sample, d.s.labels()); err != nil {
		http.Error(w, "exposition failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", probe.ContentType)
	if _, err := w.Write(b.Bytes()); err != nil {
		return // the scraper went away
	}
}

// engine forwards to the process that the first word names, else to the
// primary one.
func (d *door) engine(w http.ResponseWriter, r *http.Request, rest string) {
	word, tail, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	e := d.s.engine(word)
	if e != nil {
		rest = "/" + tail
	} else if e = d.s.primary(); e == nil {
		http.NotFound(w, r)
		return
	}
	t := e.target.Load()
	if t == nil {
		http.Error(w, e.Name+" is not ready", http.StatusServiceUnavailable)
		return
	}
	forward(w, r, t, rest)
}

// otlp hands pushed telemetry to the Collector of a monitors run.
func (d *door) otlp(w http.ResponseWriter, r *http.Request, rest string) {
	e := d.s.engine(monitors.Collector)
	if e == nil || d.s.Plan.Monitors == nil || e.target.Load() == nil {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	forward(w, r, &target{base: &url.URL{Scheme: "http", Host: "127.0.0.1"}, transport: d.s.otlpHTTP}, rest)
}

// forward proxies one request. The caller's key stays here; the engine gets
// its own, if it wants one. What is streamed is flushed at once.
func forward(w http.ResponseWriter, r *http.Request, t *target, escaped string) {
	if escaped == "" {
		escaped = "/"
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		http.Error(w, "bad path", http.StatusBadRequest)
		return
	}
	p := &httputil.ReverseProxy{
		Transport:     t.transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = t.base.Scheme, t.base.Host
			pr.Out.URL.Path, pr.Out.URL.RawPath = path, escaped
			pr.Out.Host = t.base.Host
			pr.Out.Header.Del("Authorization")
			pr.Out.Header.Del("Cookie")
			if t.auth != "" {
				pr.Out.Header.Set("Authorization", t.auth)
			}
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				http.Error(w, "body too large", http.StatusRequestEntityTooLarge)
				return
			}
			http.Error(w, "the engine did not answer", http.StatusBadGateway)
		},
	}
	p.ServeHTTP(w, r)
}

// limited bounds the connections a listener hands out: strangers may connect,
// and must not use up the descriptors of the supervisor.
type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}

type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	c.release()
	return c.Conn.Close()
}

// labels are common to every series this supervisor exports.
func (s *supervisor) labels() []probe.Label {
	return []probe.Label{
		{Name: "run", Value: s.Dir.ID()}, {Name: "service", Value: s.Plan.Service}, {Name: "node", Value: s.Hostname},
	}
}

// publishDoor writes doors/<host>.json with the paths worth scraping.
func (s *supervisor) publishDoor() error {
	paths := []string{"/metrics"}
	for _, e := range s.engines {
		if e.MetricsPath != "" && e.target.Load() != nil {
			paths = append(paths, "/engine/"+e.Name+e.MetricsPath)
		}
	}
	err := run.WriteJSON(s.doorFile(), run.Door{
		SchemaVersion: run.SchemaVersion, Host: s.Hostname, URL: s.door.url(), PID: s.pid, MetricsPaths: paths,
	})
	if err != nil {
		return fmt.Errorf("publish door: %w", err)
	}
	return nil
}

func (s *supervisor) doorFile() string { return s.Dir.File(run.DoorsDir, word(s.Hostname)+".json") }

// dialTunnel asks another run's door for a byte stream to its Collector.
func dialTunnel(ctx context.Context, doorURL, key string) (net.Conn, error) {
	u, err := url.Parse(doorURL)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("dial tunnel: door %.200q is not an http address", doorURL)
	}
	ctx, cancel := context.WithTimeout(ctx, tunnelTimeout)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("dial tunnel: %w", err)
	}
	if err := shakeHands(ctx, c, u.Host, key); err != nil {
		return nil, errors.Join(fmt.Errorf("dial tunnel: %w", err), c.Close())
	}
	return c, nil
}
