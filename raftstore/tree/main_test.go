package tree

import (
	"flag"
	"os"
	"testing"
)

// skipRacing leaves a long test to the run of "make test" without the race detector, which finds nothing in it: the package has no
// goroutines of its own.
func skipRacing(t *testing.T) {
	if raceEnabled {
		t.Skip("runs without the race detector")
	}
}

// TestMain has the race detector look at few random sequences: the package has no goroutines of its own, and "make test" runs the
// hundreds of thousands of commands without it.
func TestMain(m *testing.M) {
	flag.Parse()
	if raceEnabled && flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue {
		flag.Set("rapid.checks", "2")
	}
	os.Exit(m.Run())
}
