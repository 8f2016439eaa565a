package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/sys/unix"

	"mailraft/test/node"
)

// terminal is a pseudo-terminal, a program on it, and what a person would see there.
type terminal struct {
	t      *testing.T
	person *os.File
	cmd    *exec.Cmd

	mu    sync.Mutex
	more  chan struct{} // closed, and made again, with whatever comes
	seen  bytes.Buffer
	ended bool
}

// onTerminal starts a program on a terminal of its own.
func onTerminal(t *testing.T, env []string, command ...string) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	w := &terminal{t: t, person: person, more: make(chan struct{})}
	w.cmd = exec.Command(command[0], command[1:]...)
	w.cmd.Env = append(append(os.Environ(), "TERM=dumb"), env...)
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = program, program, program
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // when the test has failed half way
		w.cmd.Process.Kill()
		w.cmd.Wait()
	})
	go w.look()
	return w
}

func (w *terminal) look() {
	b := make([]byte, 4096)
	for {
		n, err := w.person.Read(b)
		w.mu.Lock()
		w.seen.Write(b[:n])
		w.ended = err != nil // EIO: nobody has the other side open
		close(w.more)
		w.more = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until the text can be seen, and returns all that can be.
func (w *terminal) await(text string) string {
	w.t.Helper()
	late := time.After(clientTime)
	for {
		w.mu.Lock()
		seen, ended, more := w.seen.String(), w.ended, w.more
		w.mu.Unlock()
		if strings.Contains(seen, text) {
			return seen
		}
		if ended {
			w.t.Fatalf("%q ended without %q:\n%s", w.cmd.Args[1:], text, seen)
		}
		select {
		case <-more:
		case <-late:
			w.cmd.Process.Kill()
			w.t.Fatalf("%q does not say %q:\n%s", w.cmd.Args[1:], text, seen)
		}
	}
}

// keys types.
func (w *terminal) keys(text string) {
	w.t.Helper()
	if _, err := w.person.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

// end waits for the program's end, and returns its exit code and all that was seen.
func (w *terminal) end() (int, string) {
	w.t.Helper()
	w.cmd.Wait() // the code tells
	for {
		w.mu.Lock()
		seen, ended, more := w.seen.String(), w.ended, w.more
		w.mu.Unlock()
		if ended {
			return w.cmd.ProcessState.ExitCode(), seen
		}
		<-more
	}
}

// Passwords are asked for twice and never shown; what destroys mail is confirmed by typing the address.
func TestAtATerminal(t *testing.T) {
	n := node.Start(t)
	n.Admin("domain", "add", "example.org")
	socket := "MAILRAFT_SOCKET=" + filepath.Join(n.Run, "admin.sock")
	ask := func(args ...string) *terminal {
		return onTerminal(t, []string{socket}, append([]string{node.Program(t)}, args...)...)
	}
	const password, address = "correct horse", "alice@example.org"

	w := ask("account", "add", address)
	w.await("New password for " + address + ": ")
	w.keys(password + "\n")
	w.await("The same again: ")
	w.keys("incorrect horse\n")
	if code, seen := w.end(); code != 6 || !strings.Contains(seen, "differ") {
		t.Errorf("two different passwords: exit code %d, %s", code, seen)
	}
	w = ask("account", "add", address)
	w.await("New password for " + address + ": ")
	w.keys(password + "\n")
	w.await("The same again: ")
	w.keys(password + "\n")
	if code, seen := w.end(); code != 0 || strings.Contains(seen, password) {
		t.Errorf("account add: exit code %d, %s", code, seen)
	}
	w = ask("unlock", address)
	w.await("Password of " + address + ": ")
	w.keys(password + "\n")
	if code, seen := w.end(); code != 0 || strings.Contains(seen, password) {
		t.Errorf("unlock: exit code %d, %s", code, seen)
	}

	w = ask("recovery", "new", address)
	w.await("Password of " + address + ": ")
	w.keys(password + "\n")
	code, seen := w.end()
	recovery := regexp.MustCompile(`[0-9A-Z]{4}(-[0-9A-Z]{4}){8}`).FindString(seen)
	if shown, err := readQR(seen); code != 0 || err != nil || shown != recovery || recovery == "" {
		t.Errorf("recovery new: exit code %d, the QR code says %q (%v), and the text\n%s", code, shown, err, seen)
	}
	w = ask("account", "recover", address)
	w.await("Recovery code of " + address + ": ")
	w.keys(strings.ToLower(recovery) + "\n")
	w.await("New password for " + address + ": ")
	w.keys(password + " battery\n")
	w.await("The same again: ")
	w.keys(password + " battery\n")
	if code, seen := w.end(); code != 0 || strings.Contains(seen, password) || strings.Contains(seen, strings.ToLower(recovery)) {
		t.Errorf("account recover: exit code %d, %s", code, seen)
	}
	w = ask("unlock", address)
	w.await("Password of " + address + ": ")
	w.keys(password + " battery\n")
	if code, seen := w.end(); code != 0 {
		t.Errorf("unlock with the new password: exit code %d, %s", code, seen)
	}

	w = ask("account", "remove", address)
	w.await("Type " + address + " to go on: ")
	w.keys("yes\n")
	if code, seen := w.end(); code != 6 || !strings.Contains(seen, "nothing was changed") {
		t.Errorf("not confirmed: exit code %d, %s", code, seen)
	}
	if out := n.Admin("account", "list"); !strings.Contains(out, address) {
		t.Errorf("removed without being confirmed: %s", out)
	}
	w = ask("account", "remove", address)
	w.await("Type " + address + " to go on: ")
	w.keys(address + "\n")
	if code, seen := w.end(); code != 0 {
		t.Errorf("confirmed: exit code %d, %s", code, seen)
	}
	if out := n.Admin("account", "list"); strings.Contains(out, address) {
		t.Errorf("confirmed and not removed: %s", out)
	}
}

// readQR reads a QR code as a camera would, from what a terminal shows: each character is two modules, one above the other.
func readQR(seen string) (string, error) {
	const module = 4 // pixels
	var rows [][2][]bool
	for line := range strings.Lines(seen) {
		if _, drawn, ok := strings.Cut(line, "\x1b[97;40m"); ok {
			drawn, _, _ = strings.Cut(drawn, "\x1b[0m")
			var row [2][]bool
			for _, c := range drawn {
				row[0] = append(row[0], c == '█' || c == '▀')
				row[1] = append(row[1], c == '█' || c == '▄')
			}
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return "", errors.New("there is none")
	}
	picture := image.NewGray(image.Rect(0, 0, len(rows[0][0])*module, len(rows)*2*module))
	for y := range picture.Rect.Dy() {
		for x, light := range rows[y/module/2][y/module%2] {
			if light {
				for i := range module {
					picture.SetGray(x*module+i, y, color.Gray{Y: 255})
				}
			}
		}
	}
	bits, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		return "", err
	}
	read, err := qrcode.NewQRCodeReader().Decode(bits, nil)
	if err != nil {
		return "", err
	}
	return read.GetText(), nil
}

// The log is text on a terminal and JSON elsewhere, that of the proxies as well.
func TestLogFormat(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Flags("--log-format", "auto"))
	w := onTerminal(t, nil, n.Command()...)
	for _, proxy := range []string{"smtp", "imap", "pop3"} {
		w.await(`msg="child started" child=` + proxy)
	}
	w.await("msg=serving")
	w.keys("\x03") // Ctrl-C
	code, seen := w.end()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	line := regexp.MustCompile(`^(\^C)?time=\S+ level=(INFO|WARN) msg=`)
	for text := range strings.Lines(seen) {
		if !line.MatchString(text) {
			t.Errorf("on a terminal: %q", text)
		}
	}

	n.Start() // which reads the log by its JSON
	n.Stop()
	elsewhere := node.New(t, node.Flags("--log-format", "nosuch"))
	if _, wrote, err := tryRun(t, t.TempDir(), elsewhere.Command()...); err == nil || !strings.Contains(string(wrote), "nosuch") || json.Valid(wrote) {
		t.Errorf("a format that is none: %v, %s", err, wrote)
	}
}
