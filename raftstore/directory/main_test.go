package directory

import (
	"flag"
	"os"
	"testing"
)

// TestMain has the race detector look at few random sequences, as in package tree.
func TestMain(m *testing.M) {
	flag.Parse()
	if raceEnabled && flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue {
		flag.Set("rapid.checks", "3")
	}
	os.Exit(m.Run())
}
