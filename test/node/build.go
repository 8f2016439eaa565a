package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Main runs a package's tests, with a folder for what the program is built into, which is removed after them. Mounts that are
// left below the nodes' folders fail the run. Call it from TestMain.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests mount file systems: run them as root")
	}
	if buildDir, err = os.MkdirTemp("", "mailraft-build-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(buildDir)) }()
	code = m.Run()
	mounts, err := mountsBelow(filepath.Join(os.TempDir(), fmt.Sprintf("mailraft-%d-", os.Getpid())))
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("left mounted: %s", strings.Join(mounts, ", "))
	}
	return code, err
}

var buildDir string

// program is the built program, of which there are two kinds.
type program struct {
	once sync.Once
	path string
	err  error
}

var (
	plainProgram  program
	racingProgram program
)

// Program is the path of the program as it is released: static. It is built when it is first asked for, of the packages that make has
// built.
func Program(t testing.TB) string {
	t.Helper()
	return plainProgram.build(t, "mailraft", []string{"CGO_ENABLED=0"}, "-trimpath")
}

func racing(t testing.TB) string {
	t.Helper()
	return racingProgram.build(t, "mailraft-race", []string{"CGO_ENABLED=1"}, "-race")
}

func (p *program) build(t testing.TB, name string, env []string, flags ...string) string {
	t.Helper()
	if buildDir == "" {
		t.Fatal("this package's TestMain does not call node.Main")
	}
	p.once.Do(func() {
		p.path = filepath.Join(buildDir, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", p.path}, flags...), "mailraft/cmd/mailraft")...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}
