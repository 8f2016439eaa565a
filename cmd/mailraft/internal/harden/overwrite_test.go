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
		if comm, err := os.ReadFile("/proc/self/comm"); err != nil || string(comm) != "starter\n" {
			t.Fatalf("the process is named %q: %v", comm, err)
		}
		t.Log("overwrites now")
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestOverwrite$", "-test.v")
	cmd.Args[0] = "/usr/sbin/starter"
	cmd.Env = append(os.Environ(), "OVERWRITE=first", "GODEBUG=asyncpreemptoff=1")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "overwrites now") != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
}
