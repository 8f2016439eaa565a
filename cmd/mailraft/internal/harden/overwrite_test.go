package harden

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestOverwrite starts a process that starts itself anew, once, as the same process with the same arguments.
func TestOverwrite(t *testing.T) {
	if before := os.Getenv("OVERWRITE"); before != "" {
		if before == "first" {
			os.Setenv("OVERWRITE", strconv.Itoa(os.Getpid()))
		}
		if err := Overwrite(); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv("GODEBUG"); got != "asyncpreemptoff=1,"+Overwriting || os.Getenv("OVERWRITE") != strconv.Itoa(os.Getpid()) {
			t.Fatal(got)
		}
		t.Log("overwrites now")
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestOverwrite$", "-test.v")
	cmd.Env = append(os.Environ(), "OVERWRITE=first", "GODEBUG=asyncpreemptoff=1")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "overwrites now") != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
}
