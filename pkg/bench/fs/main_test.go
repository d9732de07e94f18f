package fs_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Ranks are goroutines on locked threads: none may outlive its run.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
