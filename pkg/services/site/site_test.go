package site

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestStrictFileNamesLineAndColumn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown top key":   {"sites: {}\nsitee: x\n", "c.yaml:2:"},
		"unknown site key":  {"sites:\n  a:\n    acount: p1\n", "c.yaml:3:5: site a: unknown key \"acount\""},
		"bad enum":          {"sites:\n  a:\n    gpu_style: many\n", "c.yaml:3:16: gpu_style is \"many\"; use one of gpus-per-node, gres, none"},
		"bad duration":      {"sites:\n  a:\n    time_limit: soon\n", "c.yaml:3:17: time_limit"},
		"own base":          {"sites:\n  a: {base: b}\n  b: {base: a}\n", "its own base"},
		"unknown base":      {"sites:\n  a: {base: nowhere}\n", "unknown site \"nowhere\""},
		"wrong type":        {"sites:\n  a:\n    gpus_per_node: four\n", "c.yaml:3:5: site a"},
		"site is a list":    {"sites:\n  a: [1]\n", "c.yaml:2:6: site a must be a mapping"},
		"unknown selection": {"site: nope\n", "unknown site \"nope\""},
		"not yaml":          {"sites: [\n", "c.yaml"},
	} {
		_, err := ParseConfig("c.yaml", []byte(c.yaml))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

func TestOriginOfEveryValue(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig("/etc/c.yaml", []byte("site: mine\nsites:\n  mine:\n    base: meluxina\n    account: p200001\n    setup:\n      - module load X\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Resolve("mine")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set("qos", "dev", "flag --qos"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"account": "/etc/c.yaml:5", "setup": "/etc/c.yaml:6", "qos": "flag --qos", "login_port": "built-in meluxina", "reservation": "default",
	} {
		if got := s.Origin(key); got != want {
			t.Errorf("origin of %s: %q, want %q", key, got, want)
		}
	}
	if s.Profile.LoginPort != 8822 || s.Profile.Account != "p200001" || len(s.Profile.Setup) != 1 || s.Profile.Setup[0] != "module load X" {
		t.Errorf("profile %+v", s.Profile)
	}
	if got := len(s.Values()); got != len(Keys()) {
		t.Errorf("%d values for %d keys", got, len(Keys()))
	}
	for _, bad := range [][2]string{{"gpu_style", "x"}, {"nothing", "1"}, {"gpus_per_node", "-1"}, {"offline", "perhaps"}} {
		if err := s.Set(bad[0], bad[1], "env"); err == nil {
			t.Errorf("set %s=%s was accepted", bad[0], bad[1])
		}
	}
	if _, err := c.Resolve("nowhere"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown site: %v", err)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "2h": 2 * time.Hour, "30d": 720 * time.Hour, "15": 15 * time.Minute, "01:30:00": 90 * time.Minute,
		"2:30": 150 * time.Second, "1-02:03:04": 26*time.Hour + 3*time.Minute + 4*time.Second, "1-2": 26 * time.Hour, "1-2:30": 26*time.Hour + 30*time.Minute, "0": 0,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "soon", "-5m", "1:2:3:4", "x-1", "1-", "9999999999999d", "::"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("site: a\nsites:\n  a: {base: slurm, account: x}\n"))
	f.Add([]byte("sites: {a: {setup: [1, 2]}}"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		c, err := ParseConfig("f", raw)
		if err == nil {
			for _, n := range c.Names() {
				_, _ = c.Resolve(n)
			}
		}
	})
}
