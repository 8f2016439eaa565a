package pop3

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// owner names a process so that others can tell whether it is still alive: without it, a proxy that was killed and started again
// would find its own maildrops in use for five minutes.
type owner struct {
	place string // this boot of this kernel, and the PID namespace in it: where pid means something
	pid   int
	start string // in clock ticks after boot: tells processes apart that had the same pid
}

// String returns "<place>.<pid>.<start>".
func (o owner) String() string { return o.place + "." + strconv.Itoa(o.pid) + "." + o.start }

// thisProcess returns the owner of the locks made here. A process that is to be confined calls it before: it reads /proc.
var thisProcess = sync.OnceValue(func() owner {
	pid := os.Getpid()
	boot, err1 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, err2 := os.Readlink("/proc/self/ns/pid")
	start, err3 := startOf(pid)
	if err1 != nil || err2 != nil || err3 != nil { // no /proc: a place that nobody knows, and only time tells
		return owner{place: rand.Text(), pid: pid, start: "0"}
	}
	sum := sha256.Sum256([]byte(string(boot) + namespace))
	return owner{place: hex.EncodeToString(sum[:8]), pid: pid, start: start}
})

// ownerIsDead says whether text begins with the owner.String of a process that is known to be gone. Of processes on other
// machines nothing is known.
func ownerIsDead(text string) bool {
	fields := strings.Split(text, ".")
	if len(fields) < 3 || fields[0] != thisProcess().place {
		return false
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil || pid <= 0 {
		return false
	}
	if me := thisProcess(); pid == me.pid {
		return fields[2] != me.start
	}
	if unix.Kill(pid, 0) == unix.ESRCH {
		return true
	}
	start, err := startOf(pid) // a process that is confined does not learn it: only time tells then
	return err == nil && start != fields[2]
}

// startOf returns when a process was started (proc(5): stat's field 22).
func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field, the program's name in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields)+2)
	}
	return string(fields[19]), nil
}
