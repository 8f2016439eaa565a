package supervise

import (
	"os"
	"syscall"
	"time"
)

// Spec says how a child is run: as this program, with other arguments.
type Spec struct {
	Name string   // for logs and the status
	Args []string // argv, from argv[0] on
	Env  []string // all of its environment
	UID  uint32   // run as this user and group, without any other groups, unless they are this process's own
	GID  uint32
	// DeathSignal is what the kernel sends the child when this process dies. 0: SIGKILL.
	DeathSignal syscall.Signal
	// Files become the child's file descriptors from FirstFile on. They stay this process's to close.
	Files []*os.File
	// Hello is written to the pipe that is the child's descriptor Pipe, each time it is started. The pipe is kept open: see
	// Supervisor.Send. Its end of file tells the child that this process is gone.
	Hello func() ([]byte, error)
}

// The descriptors of a child, beside standard error, which is this process's.
const (
	Pipe      = 3
	FirstFile = 4
)

// Delays before a child that died is started again: they double, and begin anew after a child that lived for a while.
const (
	minDelay = 100 * time.Millisecond
	maxDelay = 30 * time.Second
	longLife = time.Minute
)

// Status is how a child is.
type Status struct {
	Name     string
	PID      int       // 0: it does not run now
	Since    time.Time // when it was started, or died
	Restarts int
	LastExit string // how it died the last time; "": it never did
}
