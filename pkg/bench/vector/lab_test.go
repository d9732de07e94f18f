package vector_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"aifbench/pkg/bench/vector"
	"aifbench/pkg/bench/vector/chroma"
	sim "aifbench/pkg/services/sim/chroma"
)

// small is a configuration that runs in well under a second on the sim.
func small(url string) vector.Config {
	c := vector.Default()
	c.Target.URL = url
	c.Vectors = []int{600}
	c.Dimension = 16
	c.Queries = 200
	c.BatchSize = 20
	c.QueryConcurrency = []int{2}
	c.DurationS, c.WarmUpS = 0, 0
	c.RequestTimeoutS = 10
	return c
}

// startSim serves a store until the test ends.
func startSim(t *testing.T, cfg sim.Config) string {
	t.Helper()
	srv := httptest.NewServer(sim.New(cfg))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// realServer is a real Chroma of the lab.
type realServer struct {
	url, persist string
	cmd          *exec.Cmd
	done         chan struct{}
}

// startReal starts the lab's real Chroma on a free port of 127.0.0.1, or
// skips the test loudly when there is none.
func startReal(t *testing.T) *realServer {
	t.Helper()
	cache := os.Getenv("AIFBENCH_CACHE")
	if cache == "" {
		t.Skip("SKIP-LAB: AIFBENCH_CACHE is not set; no real Chroma to test against")
	}
	binary := filepath.Join(cache, "chroma", "bin", "chroma")
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("SKIP-LAB: no real Chroma: %v", err)
	}
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	s := &realServer{url: "http://127.0.0.1:" + port, persist: filepath.Join(dir, "data"), done: make(chan struct{})}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("persist_path: %q\nlisten_address: \"127.0.0.1\"\nport: %s\n", s.persist, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(binary, "run", config)
	s.cmd.Dir = dir
	s.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "RUST_LOG=off"}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	t.Cleanup(s.kill)
	client, err := chroma.New(s.url, chroma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for client.Ready(ctx) != nil {
		select {
		case <-s.done:
			t.Fatal("the real Chroma ended at once")
		case <-ctx.Done():
			t.Fatal("the real Chroma is not ready after 60 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return s
}

// kill ends the server at once and waits for it.
func (s *realServer) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}
