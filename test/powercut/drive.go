// Package powercut runs programs on a disk whose power is cut. The disk (package disk) is served by a process of its own, which
// is this program again, told so by its environment.
//
// A test's TestMain calls ServeIfAsked first. Tests need root and /dev/fuse.
package powercut

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"

	"mailraft/test/powercut/disk"
)

const asked = "MAILRAFT_TEST_DISK" // in the environment: the path to mount at

// ServeIfAsked does not return in a process that is to be the disk.
func ServeIfAsked() {
	path := os.Getenv(asked)
	if path == "" {
		return
	}
	if err := serve(path, os.Stdin, os.Stdout); err != nil {
		log.Fatalf("disk: %v", err)
	}
	os.Exit(0)
}

// serve does what it is told, one word a line, and answers "ok" to each. It ends, unmounted, with its input.
func serve(path string, in io.Reader, out io.Writer) error {
	k := disk.New()
	m, err := k.Mount(path)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ok")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var seed uint64
		switch word, arg, _ := strings.Cut(lines.Text(), " "); word {
		case "lose":
			m.Cut(nil)
		case "tear":
			if _, err := fmt.Sscan(arg, &seed); err != nil {
				return err
			}
			m.Cut(rand.New(rand.NewPCG(seed, seed)))
		case "restore":
			if err := m.Close(); err != nil {
				return err
			}
			if m, err = k.Mount(path); err != nil {
				return err
			}
		default:
			return fmt.Errorf("no such order: %q", word)
		}
		fmt.Fprintln(out, "ok")
	}
	return m.Close()
}

// Drive is a disk in a process of its own.
type Drive struct {
	Path string // where it is mounted

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start starts an empty disk and mounts it at path, a folder that is there.
func Start(path string) (*Drive, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &Drive{Path: path, cmd: exec.Command(exe)}
	d.cmd.Env = append(os.Environ(), asked+"="+path)
	d.cmd.Stderr = os.Stderr
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	return d, d.answer()
}

func (d *Drive) answer() error {
	line, err := d.out.ReadString('\n')
	if err != nil || line != "ok\n" {
		return fmt.Errorf("disk at %s answered %q: %v", d.Path, line, err)
	}
	return nil
}

func (d *Drive) order(line string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintln(d.in, line); err != nil {
		return err
	}
	return d.answer()
}

// Lose cuts the power: all that was not synced is lost. Whoever uses the disk hangs in its next call: kill it, then Restore.
func (d *Drive) Lose() error { return d.order("lose") }

// Tear cuts the power as Lose does, but a part of what was not synced, drawn by the seed, came to the disk.
func (d *Drive) Tear(seed uint64) error { return d.order(fmt.Sprint("tear ", seed)) }

// Restore brings the disk up again with what was on it, at the same path.
func (d *Drive) Restore() error { return d.order("restore") }

// Stop takes the disk away with all that is on it.
func (d *Drive) Stop() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in.Close()
	return d.cmd.Wait()
}
