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

// serve does what it is told, a word and at most one number a line, and answers "ok" to each. It ends, unmounted, with its input.
func serve(path string, in io.Reader, out io.Writer) error {
	k := disk.New()
	m, err := k.Mount(path)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ok")
	lines := bufio.NewScanner(in)
	var struck <-chan struct{}
	for lines.Scan() {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		var number uint64
		if arg != "" {
			if _, err := fmt.Sscan(arg, &number); err != nil {
				return err
			}
		}
		answer := ""
		switch word {
		case "lose":
			m.Cut(nil)
		case "tear":
			m.Cut(rand.New(rand.NewPCG(number, number)))
		case "lose-at":
			struck = m.AtSync(int(number), true, nil)
		case "tear-at":
			struck = m.AtSync(int(number), true, rand.New(rand.NewPCG(number, number)))
		case "hang-at":
			struck = m.AtSync(int(number), false, nil)
		case "await":
			<-struck
		case "syncs":
			answer = fmt.Sprint(" ", k.Syncs())
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
		fmt.Fprintln(out, "ok"+answer)
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
	_, err = d.answer()
	return d, err
}

// answer reads "ok" and what follows it.
func (d *Drive) answer() (string, error) {
	line, err := d.out.ReadString('\n')
	rest, ok := strings.CutPrefix(line, "ok")
	if err != nil || !ok {
		return "", fmt.Errorf("disk at %s answered %q: %v", d.Path, line, err)
	}
	return strings.TrimSpace(rest), nil
}

func (d *Drive) order(line string) error {
	_, err := d.ask(line)
	return err
}

func (d *Drive) ask(line string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintln(d.in, line); err != nil {
		return "", err
	}
	return d.answer()
}

// Lose cuts the power: all that was not synced is lost. Whoever uses the disk hangs in its next call: kill it, then Restore.
func (d *Drive) Lose() error { return d.order("lose") }

// Tear cuts the power as Lose does, but a part of what was not synced, drawn by the seed, came to the disk.
func (d *Drive) Tear(seed uint64) error { return d.order(fmt.Sprint("tear ", seed)) }

// When says what happens at a sync.
type When string

// Before the sync is done, the power is cut and what was not synced is lost, or a part of it comes through; or the disk hangs, as
// if the power was cut, but loses nothing: that is the moment to kill who uses it.
const (
	LoseAt When = "lose-at"
	TearAt When = "tear-at"
	HangAt When = "hang-at"
)

// AtSync has it happen at the n-th sync from now. Await waits for it.
func (d *Drive) AtSync(w When, n int) error { return d.order(fmt.Sprint(w, " ", n)) }

// Await returns when what AtSync announced has happened.
func (d *Drive) Await() error { return d.order("await") }

// Syncs is how many syncs the disk has been asked for.
func (d *Drive) Syncs() (n int, err error) {
	s, err := d.ask("syncs")
	if err == nil {
		_, err = fmt.Sscan(s, &n)
	}
	return n, err
}

// Restore brings the disk up again with what was on it, at the same path.
func (d *Drive) Restore() error { return d.order("restore") }

// Stop takes the disk away with all that is on it.
func (d *Drive) Stop() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in.Close()
	return d.cmd.Wait()
}
