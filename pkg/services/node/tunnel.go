package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// A tunnel carries OTLP over gRPC from an engine that can push to nothing but
// a plain loopback port, through the door of the monitors run, to the
// Collector's socket. Bytes are not looked at: gRPC is HTTP/2, and what speaks
// it at both ends is not ours.
const (
	tunnelPath    = "/tunnel/otlp"
	tunnelProto   = "aifbench-otlp"
	tunnelTimeout = 5 * time.Second
)

// tunnels are open pairs of connections and the goroutines that copy between
// them.
type tunnels struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	wg     sync.WaitGroup
}

func newTunnels() *tunnels { return &tunnels{conns: map[net.Conn]bool{}} }

// join copies both ways until either side ends. It takes both connections
// over; r is what was already read from a.
func (t *tunnels) join(a, b net.Conn, r io.Reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_, _ = a.Close(), b.Close()
		return
	}
	t.conns[a], t.conns[b] = true, true
	done := sync.OnceFunc(func() {
		_, _ = a.Close(), b.Close() // one side's end is the end of both
		t.mu.Lock()
		delete(t.conns, a)
		delete(t.conns, b)
		t.mu.Unlock()
	})
	t.wg.Go(func() { _, _ = io.Copy(b, r); done() })
	t.wg.Go(func() { _, _ = io.Copy(a, b); done() })
}

// close ends every tunnel and waits for its goroutines.
func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// tunnel answers the upgrade of a keyed request.
func (d *door) tunnel(w http.ResponseWriter, r *http.Request) {
	if d.s.Plan.Monitors == nil || d.s.engine(monitors.Collector) == nil {
		http.NotFound(w, r)
		return
	}
	if r.Header.Get("Upgrade") != tunnelProto {
		http.Error(w, "upgrade to "+tunnelProto, http.StatusUpgradeRequired)
		return
	}
	dial, cancel := context.WithTimeout(r.Context(), tunnelTimeout)
	defer cancel()
	var dialer net.Dialer
	back, err := dialer.DialContext(dial, "unix", d.s.monitorFiles().GRPCSocket())
	if err != nil {
		http.Error(w, "the collector did not answer", http.StatusBadGateway)
		return
	}
	front, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = back.Close()
		http.Error(w, "no upgrade on this connection", http.StatusBadRequest)
		return
	}
	// Deadlines of the HTTP server do not hold for a tunnel.
	err = front.SetDeadline(time.Time{})
	if err == nil {
		_, err = front.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + tunnelProto + "\r\n\r\n"))
	}
	if err != nil {
		_, _ = front.Close(), back.Close()
		return
	}
	d.tunnels.join(front, back, buf.Reader)
}

// shakeHands asks for the upgrade on a fresh connection. The answer is read
// byte by byte up to its end, so that nothing of the stream is lost.
func shakeHands(ctx context.Context, c net.Conn, host, key string) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	req := "GET " + tunnelPath + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + key +
		"\r\nConnection: Upgrade\r\nUpgrade: " + tunnelProto + "\r\n\r\n"
	if _, err := c.Write([]byte(req)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{c}, 16), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the door answers status %d", resp.StatusCode)
	}
	return c.SetDeadline(time.Time{})
}

// oneByte keeps a buffered reader from taking more than the head.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return o.r.Read(p[:1])
}

// otlpForward is the loopback port an engine pushes to.
type otlpForward struct {
	ln      net.Listener
	done    chan struct{}
	tunnels *tunnels
}

// openOTLP opens the port when there are live monitors to forward to;
// monitors.ErrNoMonitors says there are none, and the engine must then not be
// told to push: what it sent would be lost in silence.
func (s *supervisor) openOTLP(ctx context.Context) (*otlpForward, error) {
	probe, err := s.dialMonitors(ctx)
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("open OTLP port: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open OTLP port: %w", err)
	}
	f := &otlpForward{ln: ln, done: make(chan struct{}), tunnels: newTunnels()}
	go func() {
		defer close(f.done)
		f.serve(s)
	}()
	return f, nil
}

func (f *otlpForward) url() string { return "http://" + f.ln.Addr().String() }

func (f *otlpForward) serve(s *supervisor) {
	for {
		c, err := f.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.Log.Warn("OTLP port", "err", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors: let some go
			continue
		}
		back, err := s.dialMonitors(context.Background())
		if err != nil {
			s.warn("telemetry that the engine pushes is lost: " + err.Error())
			_ = c.Close()
			continue
		}
		f.tunnels.join(c, back, c)
	}
}

func (f *otlpForward) close() error {
	err := f.ln.Close()
	<-f.done
	f.tunnels.close()
	return err
}

// dialMonitors opens a tunnel to the live monitors of this run's home.
func (s *supervisor) dialMonitors(ctx context.Context) (net.Conn, error) {
	dir, ep, err := monitors.Find(s.store())
	if err != nil {
		return nil, err
	}
	key, err := dir.Key()
	if err != nil {
		return nil, err
	}
	c, err := dialTunnel(ctx, ep.DoorURL, key)
	if err != nil {
		return nil, fmt.Errorf("monitors %s: %w", dir.ID(), err)
	}
	return c, nil
}

// store is the home this run lives in.
func (s *supervisor) store() run.Store { return storeOf(s.Dir) }
