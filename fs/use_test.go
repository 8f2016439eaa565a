package fs

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// useGrace is the grace of these tests: the keyring asks after it whether an account is in use.
const useGrace = time.Second

// startUsed starts a server of the whole tree and its shards, with alice unlocked as long as she is used.
func startUsed(t *testing.T) (*testServer, string) {
	t.Helper()
	t.Setenv(graceEnv, useGrace.String())
	s := startShards(t)
	shard, err := strconv.Atoi(s.do("shard alice"))
	must(t, err)
	s.do("unlock alice")
	home := s.homeOn(shard, "alice")
	write(t, home+"/cur/f", "text")
	s.do("used alice")
	return s, home
}

// stays checks that alice is unlocked still after the keyring has asked who is in use, and that twice.
func (s *testServer) stays(t *testing.T, why string) {
	t.Helper()
	asked := func() int {
		n, err := strconv.Atoi(s.do("asked x"))
		must(t, err)
		return n
	}
	before := asked()
	eventually(t, why+": asked twice", func() bool { return s.do("unlocked alice") != "true" || asked() >= before+2 })
	if s.do("unlocked alice") != "true" {
		t.Fatalf("%s: alice is locked", why)
	}
}

func TestAnAccountIsUnlockedWhileUsed(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, home string) (end func()){
		"an open file": func(t *testing.T, home string) func() {
			f, err := os.Open(home + "/cur/f")
			must(t, err)
			return func() { must(t, f.Close()) }
		},
		"an open folder": func(t *testing.T, home string) func() {
			f, err := os.Open(home + "/cur")
			must(t, err)
			return func() { must(t, f.Close()) }
		},
		"an open index": func(t *testing.T, home string) func() {
			f, err := os.Open(home + "/.mailraft-index")
			must(t, err)
			return func() { must(t, f.Close()) }
		},
		"a process's folder": func(t *testing.T, home string) func() {
			cmd := exec.Command("sleep", "600")
			cmd.Dir = home + "/cur"
			must(t, cmd.Start())
			return func() { cmd.Process.Kill(); cmd.Wait() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, home := startUsed(t)
			end := use(t, home)
			s.stays(t, name)
			end()
			eventually(t, "locked after the last use", func() bool { return s.do("unlocked alice") == "false" })
		})
	}
}

// Requests alone keep the account unlocked as well, each for the grace.
func TestRequestsAreUse(t *testing.T) {
	s, home := startUsed(t)
	for begun := time.Now(); time.Since(begun) < 4*useGrace; time.Sleep(useGrace / 8) {
		must(t, os.Chmod(home+"/cur/f", 0o600))
	}
	if s.do("unlocked alice") != "true" {
		t.Fatal("locked while it was used")
	}
	eventually(t, "locked after the last use", func() bool { return s.do("unlocked alice") == "false" })
}

// Another's use does not keep the account unlocked, nor that of the domain.
func TestOthersAreNoUse(t *testing.T) {
	s, home := startUsed(t)
	must(t, os.Chmod(home+"/cur/f", 0o600)) // used once
	f, err := os.Open(s.home("bob"))
	must(t, err)
	defer f.Close()
	top, err := os.Open(s.mounts[0] + "/example.org")
	must(t, err)
	defer top.Close()
	eventually(t, "locked", func() bool { return s.do("unlocked alice") == "false" })
}
