package sandbox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confined is the variable that has this program confine itself, in the folder that it names.
const confined = "SANDBOX_FOLDER"

// TestEnter confines a process of its own, since it cannot be undone, as a user who could do more.
func TestEnter(t *testing.T) {
	if folder := os.Getenv(confined); folder != "" {
		insideOf(t, folder)
		return
	}
	folder, err := os.MkdirTemp("", "sandbox-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	for _, name := range []string{"mail", "mail/cur", "run"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"mail/message": "mail", "secret": "a secret"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"node.sock", "admin.sock"} {
		l, err := net.Listen("unix", filepath.Join(folder, "run", name))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go answerAll(l)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestEnter$", "-test.v")
	cmd.Env = append(os.Environ(), confined+"="+folder)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func answerAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, "node")
		c.Close()
	}
}

func insideOf(t *testing.T, folder string) {
	mail := filepath.Join(folder, "mail")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	given, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go answerAll(other)
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { os.Exit(2) }).Stop()
	if err := os.Chdir(filepath.Join(folder, "run")); err != nil {
		t.Fatal(err)
	}
	// Threads that are there already are confined as well.
	for range 8 {
		go func() { time.Sleep(time.Hour) }()
	}
	if err := Enter(Limits{Mail: mail, Socket: "node.sock", SocketFolder: ".", Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}); err != nil {
		t.Fatal(err)
	}
	for _, w := range works(mail) {
		if err := w.do(); err != nil {
			t.Errorf("%s: %v", w.what, err)
		}
	}
	for _, f := range forbidden(folder, child.Process.Pid, given, other.Addr().(*net.TCPAddr).Port) {
		// Go's threads take turns: whichever runs it must be refused.
		for range 3 {
			if err := f.do(); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EXDEV) {
				t.Errorf("%s: %v", f.what, err)
			}
		}
	}
}

// attempt is something that a process tries.
type attempt struct {
	what string
	do   func() error
}

// keep has what system calls are given stay.
var keep []*byte

// works is what a proxy does.
func works(mail string) []attempt {
	return []attempt{
		{"read", func() error { _, err := os.ReadFile(mail + "/message"); return err }},
		{"list", func() error { _, err := os.ReadDir(mail); return err }},
		{"write", func() error { return os.WriteFile(mail+"/new", nil, 0o600) }},
		{"link elsewhere", func() error { return os.Link(mail+"/new", mail+"/cur/new") }},
		{"rename elsewhere", func() error { return os.Rename(mail+"/new", mail+"/cur/newer") }},
		{"truncate", func() error { return os.Truncate(mail+"/cur/new", 0) }},
		{"change the times", func() error { return os.Chtimes(mail+"/cur/new", time.Time{}, time.Now()) }},
		{"remove", func() error { return os.Remove(mail + "/cur/new") }},
		{"make and remove a folder", func() error { return errors.Join(os.Mkdir(mail+"/.New", 0o700), os.Remove(mail+"/.New")) }},
		{"ask the node", func() error {
			c, err := net.Dial("unix", "node.sock")
			if err != nil {
				return err
			}
			defer c.Close()
			if b, err := io.ReadAll(c); err != nil || string(b) != "node" {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		}},
		{"threads", func() error {
			block := make(chan struct{})
			for range 30 { // each blocks a thread for a moment
				go func() { var ts = unix.Timespec{Nsec: 50e6}; unix.Nanosleep(&ts, nil); block <- struct{}{} }()
			}
			for range 30 {
				<-block
			}
			return nil
		}},
		{"a signal to itself", func() error {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGUSR1)
			if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
				return err
			}
			<-c
			return nil
		}},
		{"is a process there", func() error {
			if err := unix.Kill(1<<22-2, 0); err != unix.ESRCH {
				return fmt.Errorf("%w", err)
			}
			return nil
		}},
	}
}

// forbidden is what nobody may do from here. Where it can be done all the same, it does no harm: the test may run as root.
func forbidden(folder string, pid int, listener *os.File, port int) []attempt {
	call := func(number uintptr, arguments ...uintptr) func() error {
		return func() error {
			var a [6]uintptr
			copy(a[:], arguments)
			if r, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
				return errno
			} else if r == 0 && number == unix.SYS_CLONE {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) // the child of a fork that should not be
			}
			return nil
		}
	}
	path := func(s string) uintptr {
		b, _ := unix.BytePtrFromString(s)
		keep = append(keep, b)
		return uintptr(unsafe.Pointer(b))
	}
	read := func(path string) func() error { return func() error { _, err := os.ReadFile(path); return err } }
	prot := uintptr(unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC)
	private := uintptr(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS)
	var memory [16]byte
	nowhere := path(folder + "/nothing")
	mail := folder + "/mail"
	return []attempt{
		{"read a file outside", read(folder + "/secret")},
		{"read by dots", read(folder + "/mail/../secret")},
		{"read /etc/shadow", read("/etc/shadow")},
		{"read its own maps", read("/proc/self/maps")},
		{"read another's memory", read(fmt.Sprintf("/proc/%d/maps", pid))},
		{"list the root", func() error { _, err := os.ReadDir("/"); return err }},
		{"write outside", func() error { return os.WriteFile(folder+"/x", nil, 0o600) }},
		{"a link into the mail", func() error { return os.Link(folder+"/secret", mail+"/secret") }},
		{"a symbolic link", func() error { return os.Symlink(folder+"/secret", mail+"/secret") }},
		{"run a program", func() error { return unix.Exec("/bin/sh", []string{"sh"}, nil) }},
		{"start a program", func() error { return exec.Command("/bin/true").Start() }},
		{"fork", call(unix.SYS_CLONE, uintptr(unix.SIGCHLD))},
		{"fork, with an ending signal that is the number of connect", call(unix.SYS_CLONE, unix.SYS_CONNECT, 0, 12)},
		{"a namespace", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		{"clone3", call(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&memory)), 0)},
		{"trace", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(pid))},
		{"read memory", call(unix.SYS_PROCESS_VM_READV, uintptr(pid), 0, 0, 0, 0)},
		{"write memory", call(unix.SYS_PROCESS_VM_WRITEV, uintptr(pid), 0, 0, 0, 0)},
		{"kill", func() error { return unix.Kill(pid, unix.SIGKILL) }},
		{"kill, with a signal that is the number of connect", call(unix.SYS_KILL, uintptr(pid), unix.SYS_CONNECT, 12)},
		{"memory to run", call(unix.SYS_MMAP, 0, 4096, prot, private, ^uintptr(0), 0)},
		{"memory to run, as the number of prlimit64", call(unix.SYS_MMAP, 0, 4096, unix.SYS_PRLIMIT64|prot, private, ^uintptr(0), 0)},
		{"memory made to run", call(unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&memory))&^4095, 4096, prot)},
		{"a TCP socket", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err }},
		{"a socket of IPv6", func() error { _, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0); return err }},
		{"a netlink socket", func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err }},
		{"a datagram socket", func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0); return err }},
		{"a pair", func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err }},
		{"dial", func() error {
			_, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
			return err
		}},
		{"another socket of the node", func() error { _, err := net.Dial("unix", "admin.sock"); return err }},
		{"a socket elsewhere", func() error { _, err := net.Dial("unix", folder+"/run/node.sock"); return err }},
		{"connect what listens", func() error {
			fd := int(listener.Fd())
			unspec := [16]byte{}
			for _, size := range []uintptr{2, 12, 16} {
				unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), size)
			}
			return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}},
		{"fast open", func() error {
			return unix.Sendto(int(listener.Fd()), []byte("x"), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}},
		{"listen", func() error { return unix.Listen(int(listener.Fd()), 1) }},
		{"core dumps again", func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		{"a signal for what comes in", func() error { _, err := unix.FcntlInt(listener.Fd(), unix.F_SETOWN, pid); return err }},
		{"mount", call(unix.SYS_MOUNT, path("none"), nowhere, path("tmpfs"), 0, 0)},
		{"unmount", call(unix.SYS_UMOUNT2, nowhere, 0)},
		{"another root", call(unix.SYS_PIVOT_ROOT, nowhere, nowhere)},
		{"chroot", call(unix.SYS_CHROOT, nowhere)},
		{"another namespace", call(unix.SYS_SETNS, 0, 0)},
		{"BPF", call(unix.SYS_BPF, 0, 0, 0)},
		{"perf", call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)},
		{"userfaultfd", call(unix.SYS_USERFAULTFD, 0)},
		{"io_uring", call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&memory)))},
		{"keys", call(unix.SYS_KEYCTL, 0, 0)},
		{"add a key", call(unix.SYS_ADD_KEY, path("user"), path("x"), path("x"), 1, 0)},
		{"request a key", call(unix.SYS_REQUEST_KEY, path("user"), path("x"), 0, 0)},
		{"by handle", call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)},
		{"a module", call(unix.SYS_INIT_MODULE, 0, 0, 0)},
		{"kexec", call(unix.SYS_KEXEC_LOAD, 0, 1, 0, 0)},
		{"a file in memory", func() error { _, err := unix.MemfdCreate("x", 0); return err }},
		{"another's descriptor", call(unix.SYS_PIDFD_OPEN, uintptr(pid), 0)},
		{"another user", call(unix.SYS_SETUID, 0)},
		{"a terminal's input", call(unix.SYS_IOCTL, 0, unix.TIOCSTI, path("x"))},
		{"the calls of x32", func() error {
			_, _, errno := unix.Syscall(0x40000000|unix.SYS_GETPID, 0, 0, 0)
			if errno == 0 {
				return nil
			}
			return errno
		}},
		{"another filter", call(unix.SYS_SECCOMP, 1, 0, 0)},
		{"remove what is outside", func() error { return os.RemoveAll(filepath.Join(folder, "run")) }},
	}
}
