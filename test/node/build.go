package node

import (
	"encoding/json"
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
		p.err = goBuild(p.path, env, flags...)
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}

func goBuild(to string, env []string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", to}, flags...), "mailraft/cmd/mailraft")...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Changed is the path of a program that is built with another text: a fault, by which a test shows that it would find it, or what a later
// version may do. In a source file, named from the module's root, each text old, which is there once, is replaced by the one behind it. The
// sources stay as they are.
func Changed(t testing.TB, source string, oldNew ...string) string {
	t.Helper()
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	overlay := otherText(t, filepath.Join(filepath.Dir(strings.TrimSpace(string(module))), source), oldNew...)
	program := filepath.Join(t.TempDir(), "mailraft")
	if err := goBuild(program, []string{"CGO_ENABLED=0"}, "-trimpath", "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	return program
}

// otherText is an overlay (go help build) with another text of a source file.
func otherText(t testing.TB, path string, oldNew ...string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldNew); i += 2 {
		if n := strings.Count(string(text), oldNew[i]); n != 1 {
			t.Fatalf("%s has %d times what is to be replaced: %q", path, n, oldNew[i])
		}
	}
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: filepath.Join(dir, "source.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"source.go": []byte(strings.NewReplacer(oldNew...).Replace(string(text))), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "overlay.json")
}
