package chroma

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"http://127.0.0.1:8000":      "http://127.0.0.1:8000",
		"http://node1:8000/":         "http://node1:8000",
		"https://door:9/prefix/":     "https://door:9/prefix",
		"http://user:s3cret@host:1":  "",
		"127.0.0.1:8000":             "",
		"ftp://host":                 "",
		"http://":                    "",
		"":                           "",
		"http://host/?token=s3cret":  "",
		"http://ho st/s3cret:\x7f@x": "",
	} {
		got, err := ParseURL(in)
		if (err == nil) != (want != "") || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error repeats a secret: %v", err)
		}
	}
}

func TestConnectionClasses(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		<-silent // takes the call and never answers
		_ = conn.Close()
	}()
	c, err := New("http://"+ln.Addr().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	if err := c.Ready(ctx); ClassOf(err) != ClassTimeout {
		t.Errorf("silence: %v", err)
	}
	cancel()
	close(silent)
	<-gone
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); ClassOf(err) != ClassConnection || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed port: %v", err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Ready(ended); ClassOf(err) != ClassCanceled {
		t.Errorf("canceled: %v", err)
	}
}
