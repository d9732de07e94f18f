// Command testsum reads `go test -json` on standard input and tells what a
// person wants to know: one line a package, every failure whole, every skip
// with its reason, and a plain closing line.
//
// Why: a skipped test looks like a passed one. Here a skip that the file
// named by the only argument (test name, tab, reason) does not list is a
// failure, so "all green" means that every real part was really used.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type summary struct {
	allowed              map[string]bool
	output               map[string][]string // by package and test
	failed               map[string]bool     // packages with a failed test
	passed, bad, skipped int
	unlisted             []string
}

func main() {
	s := &summary{allowed: map[string]bool{}, output: map[string][]string{}, failed: map[string]bool{}}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ... | testsum ALLOWED-SKIPS")
		os.Exit(2)
	}
	if err := s.readAllowed(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // the go command's own words
			continue
		}
		s.event(e)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		s.bad++
	}
	os.Exit(s.close())
}

func (s *summary) readAllowed(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		test, reason, ok := strings.Cut(line, "\t")
		if !ok || strings.TrimSpace(reason) == "" {
			return fmt.Errorf("%s: %q: want test name, tab, reason", name, line)
		}
		s.allowed[test] = true
	}
	return nil
}

func (s *summary) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageDone(e, key)
		} else {
			s.testDone(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) packageDone(e event, key string) {
	switch {
	case e.Action == "fail":
		if !s.failed[e.Package] { // it did not build, panicked outside a test or ran out of time
			s.bad++
			s.dump(e.Package+" ", key)
		}
		fmt.Printf("FAIL %s %.1fs\n", e.Package, e.Elapsed)
	case e.Action == "pass":
		fmt.Printf("ok   %s %.1fs\n", e.Package, e.Elapsed)
	}
}

// dump prints what a package and its unfinished tests have said.
func (s *summary) dump(prefix, key string) {
	var keys []string
	for k := range s.output {
		if strings.HasPrefix(k, prefix) && k != key {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range append(keys, key) {
		fmt.Print(strings.Join(s.output[k], ""))
		delete(s.output, k)
	}
}

func (s *summary) testDone(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.bad++
		s.failed[e.Package] = true
		fmt.Printf("---- %s %s\n%s", e.Package, e.Test, strings.Join(s.output[key], ""))
	case "skip":
		s.skipped++
		reason := skipReason(s.output[key])
		fmt.Printf("skip %s %s: %s\n", e.Package, e.Test, reason)
		if !s.allowed[e.Test] {
			s.unlisted = append(s.unlisted, e.Test+": "+reason)
		}
	}
}

// skipReason is what the test said, without the go command's own lines.
func skipReason(lines []string) string {
	var said []string
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}

func (s *summary) close() int {
	if len(s.unlisted) > 0 {
		fmt.Println("\nskipped without being in allowed-skips.txt (each counts as failed):")
		for _, t := range s.unlisted {
			fmt.Println("  " + t)
		}
		s.bad += len(s.unlisted)
		s.skipped -= len(s.unlisted)
	}
	if s.passed+s.bad+s.skipped == 0 {
		fmt.Println("no test ran")
		s.bad++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", s.passed, s.bad, s.skipped)
	return min(s.bad, 1)
}
