package adminapi

import (
	"os"
	"testing"

	"mailraft/fs/seal/slot"
)

// TestMain has passwords cost little: what they cost is the business of package slot, and many are made here.
func TestMain(m *testing.M) {
	slot.DefaultParams = slot.Params{Passes: 1, Memory: slot.MinMemory, Threads: 1}
	os.Exit(m.Run())
}
