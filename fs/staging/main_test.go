package staging

import (
	"flag"
	"os"
	"testing"
)

// TestMain draws fewer random sequences than package rapid would by itself: each is tried in five ways, on a disk, under the race detector.
func TestMain(m *testing.M) {
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		flag.Set("rapid.checks", "40")
	}
	os.Exit(m.Run())
}
