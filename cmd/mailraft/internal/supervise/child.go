package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// child is one child process after the other, of the same kind.
type child struct {
	spec Spec
	log  *slog.Logger
	stop chan struct{} // closed: let it end
	kill chan struct{} // closed: end it
	done chan struct{} // closed when it has ended for good

	telling sync.Mutex // taken before mu, and held while something is said to the process
	pipe    *os.File   // to the process that has had its hello; nil: none. Guarded by telling

	mu     sync.Mutex
	status Status
}

// run starts the process again and again. The thread that starts a process has to live as long as the process: it is what the
// kernel watches for the death signal (prctl(2), PR_SET_PDEATHSIG). So the goroutine keeps its thread to itself, and the
// thread ends with it.
func (c *child) run() {
	runtime.LockOSThread()
	defer close(c.done)
	delay := minDelay
	for {
		started := time.Now()
		err := c.once()
		if c.stopping() {
			return
		}
		c.died(err)
		if time.Since(started) > longLife {
			delay = minDelay
		}
		c.log.Error("child died", "child", c.spec.Name, "error", err, "restart_in", delay)
		if !c.pause(delay) {
			return
		}
		delay = min(2*delay, maxDelay)
	}
}

func (c *child) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *child) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.stop:
		return false
	}
}

// once runs one process to its end.
func (c *child) once() error {
	cmd, ended, err := c.start()
	if err != nil {
		return err
	}
	defer c.hangUp()
	c.log.Info("child started", "child", c.spec.Name, "pid", cmd.Process.Pid)
	select {
	case err := <-ended:
		return exitError(err)
	case <-c.stop:
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return exitError(err)
	case <-c.kill:
	}
	c.log.Warn("child did not end in time", "child", c.spec.Name, "pid", cmd.Process.Pid)
	cmd.Process.Kill()
	return exitError(<-ended)
}

// start starts a process and says hello to it. Nothing else is said meanwhile: what Send has comes after the hello, or was known
// to it.
func (c *child) start() (*exec.Cmd, <-chan error, error) {
	c.telling.Lock()
	defer c.telling.Unlock()
	hello, err := c.spec.Hello()
	if err != nil {
		return nil, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := c.command(r)
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return nil, nil, fmt.Errorf("start: %w", err)
	}
	c.started(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := send(w, hello); err != nil {
		w.Close()
		cmd.Process.Kill()
		return nil, nil, errors.Join(fmt.Errorf("hand over: %w", err), <-ended)
	}
	c.pipe = w
	return cmd, ended, nil
}

// hangUp closes the pipe to a process that has ended.
func (c *child) hangUp() {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.pipe.Close()
	c.pipe = nil
}

// tell writes to the process, if one runs.
func (c *child) tell(b []byte) error {
	c.telling.Lock()
	defer c.telling.Unlock()
	if c.pipe == nil {
		return nil
	}
	return send(c.pipe, b)
}

func (c *child) command(pipe *os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		// Also where the child's user may not reach the program's folder, and where its file has been replaced meanwhile.
		Path:       "/proc/self/exe",
		Args:       c.spec.Args,
		Env:        append([]string{}, c.spec.Env...),
		Dir:        "/",
		Stderr:     os.Stderr,
		ExtraFiles: append([]*os.File{pipe}, c.spec.Files...),
		// In a session of its own: what is typed at the daemon's terminal (Ctrl-C) is meant for the daemon.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: cmp.Or(c.spec.DeathSignal, syscall.SIGKILL), Setsid: true},
	}
	if int(c.spec.UID) != os.Geteuid() || int(c.spec.GID) != os.Getegid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.spec.UID, Gid: c.spec.GID}
	}
	return cmd
}

// sendTime is long enough for any child that reads its pipe at all.
const sendTime = 10 * time.Second

func send(w *os.File, b []byte) error {
	if err := w.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func exitError(err error) error {
	if err == nil {
		return errors.New("it ended by itself")
	}
	return err
}

func (c *child) started(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.PID, c.status.Since = pid, time.Now()
}

func (c *child) died(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.PID, c.status.Since, c.status.LastExit = 0, time.Now(), err.Error()
	c.status.Restarts++
}

// Supervisor runs children.
type Supervisor struct {
	children []*child
	log      *slog.Logger
	killed   sync.Once
}

// Start starts a child of each kind.
func Start(log *slog.Logger, specs ...Spec) *Supervisor {
	s := &Supervisor{log: log}
	for _, spec := range specs {
		c := &child{
			spec: spec, log: log,
			stop: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}),
			status: Status{Name: spec.Name, Since: time.Now()},
		}
		s.children = append(s.children, c)
		go c.run()
	}
	return s
}

// Send writes to the pipes of the children that run now. Those that are started later get what Hello says then.
func (s *Supervisor) Send(b []byte) {
	for _, c := range s.children {
		if err := c.tell(b); err != nil {
			s.log.Warn("cannot reach a child", "child", c.spec.Name, "error", err)
		}
	}
}

// Status is how the children are.
func (s *Supervisor) Status() []Status {
	var all []Status
	for _, c := range s.children {
		c.mu.Lock()
		all = append(all, c.status)
		c.mu.Unlock()
	}
	return all
}

// Stop asks the children to end (SIGTERM), and kills those that have not when ctx is done. It returns when all have ended.
// Call it once.
func (s *Supervisor) Stop(ctx context.Context) {
	for _, c := range s.children {
		close(c.stop)
	}
	for _, c := range s.children {
		select {
		case <-c.done:
		case <-ctx.Done():
			s.killed.Do(func() {
				for _, c := range s.children {
					close(c.kill)
				}
			})
			<-c.done
		}
	}
}
