package run

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A breaker that read the holder before a successor took the claim must not
// throw the successor out.
func TestBreakerLeavesTheSuccessor(t *testing.T) {
	t.Parallel()
	for round := range 200 {
		s := Store{Home: t.TempDir()}
		now := time.Now()
		if _, err := s.TakeClaim("c", "old", now); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		winners := make(chan string, 64)
		for i := range 8 {
			wg.Go(func() {
				id := string(rune('a' + i))
				for range 50 {
					if err := s.BreakClaim("c", "old"); err != nil {
						t.Error(err)
						return
					}
					_, err := s.TakeClaim("c", id, now)
					if err == nil {
						winners <- id
						return
					}
					if held, ok := err.(*ClaimedError); ok && held.Holder.Run != "" && held.Holder.Run != "old" {
						return
					}
				}
			})
		}
		wg.Wait()
		close(winners)
		var won []string
		for w := range winners {
			won = append(won, w)
		}
		if len(won) != 1 {
			t.Fatalf("round %d: %d winners: %v", round, len(won), won)
		}
	}
}

// A slow breaker that acts on what it read earlier finds the mark missing but
// another holder.
func TestStaleBreakerDoesNothing(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	if _, err := s.TakeClaim("c", "new", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := soleBreaker(filepath.Join(s.ClaimsDir(), "c"), "old"); err != nil {
		t.Fatal(err)
	}
	if err := s.BreakClaim("c", "old"); err != nil {
		t.Fatal(err)
	}
	if holds, err := s.HoldsClaim("c", "new"); err != nil || !holds {
		t.Errorf("holds %v, %v", holds, err)
	}
}

func TestKilledBreakerIsSucceeded(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	if _, err := s.TakeClaim("c", "old", time.Now()); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.ClaimsDir(), "c", "broken-old")
	if err := os.Mkdir(mark, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.BreakClaim("c", "old"); err != nil {
		t.Fatal(err)
	}
	if holds, err := s.HoldsClaim("c", "old"); err != nil || !holds {
		t.Fatalf("broken while another breaker is at work: %v, %v", holds, err)
	}
	past := time.Now().Add(-2 * breakerPatience)
	if err := os.Chtimes(mark, past, past); err != nil {
		t.Fatal(err)
	}
	if err := s.BreakClaim("c", "old"); err != nil {
		t.Fatal(err)
	}
	if holds, err := s.HoldsClaim("c", "old"); err != nil || holds {
		t.Errorf("holds %v, %v", holds, err)
	}
}

// A job that was made outlives every error noted after it.
func TestRefusedAfterSubmittedIsLive(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	d, err := s.Create(Intent{ID: "vllm-20260101-000000-abcd", Nonce: "0123abcd"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	for i, e := range []Event{{Kind: EventIntent}, {Kind: EventSubmitted, JobID: "7"}, {Kind: EventRefused, Message: "look for a twin: away"}} {
		if err := d.Append(at.Add(time.Duration(i)), e); err != nil {
			t.Fatal(err)
		}
	}
	if st := d.State(); !st.Live() || st.JobID != "7" || st.PreparedAt.IsZero() {
		t.Errorf("state %+v", st)
	}
}

func TestHalfMadeRunIsTakenBack(t *testing.T) {
	t.Parallel()
	s := Store{Home: t.TempDir()}
	in := Intent{ID: "vllm-20260101-000000-abcd", Params: map[string]Param{"bad": {Value: func() {}}}}
	if _, err := s.Create(in); err == nil {
		t.Fatal("an intent that cannot be written was accepted")
	}
	if _, bad, err := s.List(); err != nil || len(bad) != 0 {
		t.Errorf("left behind: %v, %v", bad, err)
	}
}
