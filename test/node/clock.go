package node

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine's clock can't be moved for one process. So a program is built whose package time adds to it what stands in a file: to the wall
// clock alone, as settimeofday(2) does.

// clockVariable names the file: the seconds to be added, 8 octets in the machine's order.
const clockVariable = "MAILRAFT_TEST_CLOCK"

var jumpingProgram program

// JumpingClock takes a program whose wall clock Jump moves.
func JumpingClock() Option {
	return func(n *Node) {
		n.program = jumpingProgram.build(n.t, "mailraft-clock", []string{"CGO_ENABLED=0"}, "-trimpath", "-overlay", otherTime(n.t))
		n.clock = filepath.Join(filepath.Dir(n.Data), "clock")
		n.Jump(0)
	}
}

// Jump has the node's wall clock show so much more, in whole seconds, than it does: or less. The monotonic one goes on.
func (n *Node) Jump(by time.Duration) {
	n.t.Helper()
	n.ahead += by.Truncate(time.Second)
	f, err := os.OpenFile(n.clock, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.Write(binary.NativeEndian.AppendUint64(nil, uint64(n.ahead/time.Second)))
		f.Close()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// otherTime is an overlay with the other package time.
func otherTime(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return otherText(t, filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go"),
		"\t_ \"unsafe\" // for go:linkname\n)\n", fmt.Sprintf(jumps, clockVariable),
		"\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n", "\tsec, nsec, mono := runtimeNow()\n\tsec += *ahead\n\tif mono == 0 {\n")
}

const jumps = `	"syscall"
	"unsafe"
)

var ahead = func() *int64 {
	path, _ := syscall.Getenv(%q)
	if path == "" {
		return new(int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err == syscall.EACCES { // a proxy, which is not root: what it makes of the time matters to nobody
		return new(int64)
	}
	if err != nil {
		panic(err)
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}()
`
