package seal_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain draws fewer random cases than package rapid would by itself: each seals up to a MiB, under the race detector.
func TestMain(m *testing.M) {
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		flag.Set("rapid.checks", "25")
	}
	os.Exit(m.Run())
}
