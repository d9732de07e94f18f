package llm_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aifbench/pkg/bench/llm"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// realServer starts the lab's vLLM on CPU and waits until it serves.
func realServer(t *testing.T) (url, keyFile string, kill func()) {
	t.Helper()
	cache := os.Getenv("AIFBENCH_CACHE")
	if cache == "" {
		t.Skip("SKIP-LAB: AIFBENCH_CACHE is not set: no real vLLM to measure")
	}
	bin, model := filepath.Join(cache, "vllm", "fast", "vllm"), filepath.Join(cache, "model")
	for _, p := range []string{bin, filepath.Join(model, "config.json")} {
		if _, err := os.Stat(p); err != nil {
			t.Skip("SKIP-LAB: no real vLLM: ", err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	dir := t.TempDir()
	keyFile = filepath.Join(dir, "key")
	const key = "lab-key-0123456789"
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "vllm.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, "serve", model, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "16", "--dtype", "bfloat16", "--kv-cache-memory-bytes", "67108864")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "VLLM_API_KEY=" + key,
		"VLLM_CACHE_ROOT=" + filepath.Join(dir, "cache"), "VLLM_CONFIG_ROOT=" + filepath.Join(dir, "cfg"), "HF_HOME=" + filepath.Join(dir, "hf"),
	}
	// A killed server leaves its engine behind: the whole group is ended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); <-exited }
	t.Cleanup(kill)
	url = "http://127.0.0.1:" + strconv.Itoa(port)
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		resp, err := http.Get(url + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url, keyFile, kill
			}
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("vLLM ended:\n%s", text[max(0, len(text)-3000):])
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("vLLM is not ready after 5 minutes")
		}
	}
}

// generated reads the server's own count of output tokens.
func generated(t *testing.T, url string) float64 {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^vllm:generation_tokens_total\{[^}]*\} (\S+)$`).FindSubmatch(b)
	if m == nil {
		t.Fatal("no vllm:generation_tokens_total")
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRealServer(t *testing.T) {
	url, keyFile, kill := realServer(t)
	real := func() llm.Config {
		c := config(url)
		c.Target.KeyFile, c.InputLen, c.OutputLen = keyFile, 32, 16
		return c
	}
	good := func(t *testing.T, r result.Result) {
		t.Helper()
		t.Logf("%s: %s; ttft p50 %v itl p50 %v tok/s %v", r.Verdict.Status, rules(r.Verdict),
			show(r, "ttft_p50_ms"), show(r, "itl_p50_ms"), show(r, "output_tokens_per_s"))
		// The lab's cores are shared, so the generator may be the limit.
		if r.Verdict.Status != result.Valid && r.Verdict.Status != result.ClientLimited {
			t.Fatalf("%+v", r.Verdict)
		}
		if n := val(t, r.Figures, "operations_failed_count"); n != 0 {
			t.Fatalf("%v failed: %v", n, r.Curve[0].Errors)
		}
	}
	t.Run("completions", func(t *testing.T) {
		before := generated(t, url)
		r, dir := bench(t, real())
		good(t, r)
		if in, out := val(t, r.Figures, "input_tokens_count"), val(t, r.Figures, "output_tokens_count"); in != 24*32 || out != 24*16 {
			t.Errorf("%v tokens in, %v out: want 768 and 384", in, out)
		}
		// The first request asks for two tokens.
		if got := generated(t, url) - before; got != 24*16+2 {
			t.Errorf("the server generated %v tokens, want 386", got)
		}
		if how := r.Figures["output_tokens_count"].How; !strings.Contains(how, "continuous_usage") {
			t.Errorf("how %q", how)
		}
		same(t, r, dir)
	})
	t.Run("chat", func(t *testing.T) {
		c := real()
		c.API = llm.Chat
		r, _ := bench(t, c)
		good(t, r)
		if out := val(t, r.Figures, "output_tokens_count"); out != 24*16 {
			t.Errorf("%v tokens out, want 384", out)
		}
	})
	t.Run("open loop", func(t *testing.T) {
		c := real()
		c.Arrival, c.Concurrency, c.RatePerS = llm.Poisson, nil, []float64{10}
		r, _ := bench(t, c)
		good(t, r)
	})
	for _, kind := range llm.Structured {
		for _, api := range llm.APIs {
			t.Run("structured "+kind+" "+api, func(t *testing.T) {
				c := real()
				c.API, c.Structured, c.IgnoreEOS, c.Temperature, c.OutputLen, c.Requests = api, kind, false, 1, 256, 12
				r, _ := bench(t, c)
				good(t, r)
				fin, parses, valid := val(t, r.Figures, "structured_finished_ratio"), val(t, r.Figures, "structured_parses_ratio"), val(t, r.Figures, "structured_valid_ratio")
				t.Logf("finished %.2f, parses %.2f, valid %.2f", fin, parses, valid)
				// White space is free in JSON, so a random model may fill the length with
				// it; whatever finished must be valid.
				if valid < fin || kind != llm.Structured[0] && valid != 1 {
					t.Errorf("finished %v, valid %v", fin, valid)
				}
			})
		}
	}
	t.Run("wrong key", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(bad, []byte("wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := real()
		c.Target.KeyFile = bad
		r, _ := bench(t, c)
		if r.Verdict.Status != result.Failed || !strings.Contains(r.Verdict.Reasons[0].Evidence, "http_401: Unauthorized") {
			t.Fatalf("%+v", r.Verdict)
		}
	})
	t.Run("killed in mid-load", func(t *testing.T) {
		c := real()
		c.Requests, c.OutputLen = 10_000, 64
		done := false
		r, err := llm.Run(context.Background(), c, load.Env{Dir: t.TempDir(), Progress: func(p load.Progress) {
			if p.Done > 8 && !done {
				done = true
				kill()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v %+v", r.Curve[0].Errors, r.Verdict.Reasons)
		if r.Verdict.Status != result.Failed || !strings.Contains(rules(r.Verdict), "server_failing") || r.Curve[0].Errors["connect_refused"] == 0 {
			t.Fatalf("%+v %v", r.Verdict, r.Curve[0].Errors)
		}
		if val(t, r.Figures, "operations_ok_count") < 8 {
			t.Error("what was measured before the end is lost")
		}
	})
}

func show(r result.Result, name string) string {
	f := r.Figures[name]
	if f.Value == nil {
		return "null (" + f.Reason + ")"
	}
	return fmt.Sprintf("%.3g", *f.Value)
}
