package supervise

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test's own program is also the children, and a parent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "child-reports":
			childReports()
			return
		case "child-ignores":
			signal.Ignore(syscall.SIGTERM)
			report("%d", os.Getpid())
			select {}
		case "child-dies":
			os.Exit(3)
		case "parent":
			parent()
			return
		}
	}
	os.Exit(m.Run())
}

// report writes a line to the first file that was handed over.
func report(format string, args ...any) {
	fmt.Fprintf(os.NewFile(FirstFile, "report"), format+"\n", args...)
}

// childReports tells what it sees of itself, then echoes its pipe until that ends or it is terminated.
func childReports() {
	report("uid %d gid %d groups %s dir %s", os.Getuid(), os.Getgid(), groups(), cwd())
	report("env %s", strings.Join(os.Environ(), " "))
	report("pid %d", os.Getpid())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	lines := make(chan string)
	go func() {
		defer close(lines)
		r := bufio.NewReader(os.NewFile(Pipe, "pipe"))
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				report("end of pipe")
				return
			}
			report("told %s", strings.TrimSpace(line))
		case <-stop:
			report("terminated")
			return
		}
	}
}

func groups() string {
	g, _ := os.Getgroups()
	return fmt.Sprint(g)
}

func cwd() string {
	d, _ := os.Getwd()
	return d
}

// parent starts a child, whose report is standard output, and waits.
func parent() {
	Start(slog.New(slog.DiscardHandler), Spec{
		Name: "x", Args: []string{"x", "child-reports"}, UID: 5000, GID: 5000, Files: []*os.File{os.Stdout},
		Hello: func() ([]byte, error) { return []byte("hello\n"), nil },
	})
	select {}
}

// family starts one child and returns the lines that it reports.
func family(t *testing.T, spec Spec) (*Supervisor, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	spec.Name, spec.Files = "x", []*os.File{w}
	if spec.Hello == nil {
		spec.Hello = func() ([]byte, error) { return []byte("hello\n"), nil }
	}
	return Start(slog.New(slog.DiscardHandler), spec), bufio.NewReader(r)
}

func next(t *testing.T, r *bufio.Reader, prefix string) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
	if !ok {
		t.Fatalf("got %q, not %q...", line, prefix)
	}
	return strings.TrimSpace(rest)
}

func stop(t *testing.T, s *Supervisor) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the child did not end by itself")
	}
}

func TestAChildHasOnlyWhatItIsGiven(t *testing.T) {
	t.Setenv("SECRET_OF_THE_PARENT", "1")
	s, r := family(t, Spec{Args: []string{"mailraft", "child-reports"}, Env: []string{"GODEBUG=asyncpreemptoff=1"}, UID: 5000, GID: 6000})
	if got := next(t, r, "uid"); got != "5000 gid 6000 groups [] dir /" {
		t.Error(got)
	}
	if got := next(t, r, "env"); got != "GODEBUG=asyncpreemptoff=1" {
		t.Error(got)
	}
	next(t, r, "pid")
	next(t, r, "told hello")
	s.Send([]byte("news\n"))
	next(t, r, "told news")
	stop(t, s)
	next(t, r, "terminated")
}

func TestADeadChildIsStartedAgain(t *testing.T) {
	hellos := 0
	s, r := family(t, Spec{Args: []string{"x", "child-reports"}, UID: 5000, GID: 5000, Hello: func() ([]byte, error) {
		hellos++
		return fmt.Appendf(nil, "hello %d\n", hellos), nil
	}})
	for i := 1; i <= 3; i++ {
		next(t, r, "uid")
		next(t, r, "env")
		pid, err := strconv.Atoi(next(t, r, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		next(t, r, "told hello "+strconv.Itoa(i))
		if st := s.Status()[0]; st.PID != pid || st.Restarts != i-1 {
			t.Errorf("%+v, pid is %d", st, pid)
		}
		if i < 3 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	if st := s.Status()[0]; !strings.Contains(st.LastExit, "killed") {
		t.Errorf("%+v", st)
	}
	stop(t, s)
}

// TestNewsComeAfterTheHello sends them while a child is being started: it must not miss them, nor have them before its hello.
func TestNewsComeAfterTheHello(t *testing.T) {
	supervisor := make(chan *Supervisor, 1)
	s, r := family(t, Spec{Args: []string{"x", "child-reports"}, UID: 5000, GID: 5000, Hello: func() ([]byte, error) {
		s := <-supervisor
		sending := make(chan struct{})
		go func() {
			close(sending)
			s.Send([]byte("news\n"))
			supervisor <- s
		}()
		<-sending
		return []byte("hello\n"), nil
	}})
	supervisor <- s
	for i := range 3 {
		next(t, r, "uid")
		next(t, r, "env")
		pid, err := strconv.Atoi(next(t, r, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		next(t, r, "told hello")
		next(t, r, "told news")
		if i < 2 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	stop(t, s)
}

func TestAChildThatDiesAtOnceIsNotStartedAllTheTime(t *testing.T) {
	var starts []time.Time
	thrice := make(chan struct{})
	s, _ := family(t, Spec{Args: []string{"x", "child-dies"}, UID: 5000, GID: 5000, Hello: func() ([]byte, error) {
		if starts = append(starts, time.Now()); len(starts) == 4 {
			close(thrice)
		}
		return []byte("hello\n"), nil
	}})
	<-thrice
	if took := starts[3].Sub(starts[0]); took < 7*minDelay {
		t.Errorf("three restarts within %v", took)
	}
	stop(t, s)
}

func TestAChildThatDoesNotEndIsKilled(t *testing.T) {
	s, r := family(t, Spec{Args: []string{"x", "child-ignores"}, UID: 5000, GID: 5000})
	pid, err := strconv.Atoi(next(t, r, ""))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	s.Stop(ctx)
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Error("it lives:", err)
	}
}

func TestNoChildOutlivesItsParent(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	next(t, r, "uid")
	next(t, r, "env")
	pid, err := strconv.Atoi(next(t, r, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	next(t, r, "told hello")
	// Threads of the parent come and go: the child must live as long as the process, not as some thread.
	runtime.GC()
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	// Its end closes the last descriptor of the pipe that is the child's report.
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}
