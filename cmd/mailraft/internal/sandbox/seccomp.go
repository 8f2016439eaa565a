package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// The filter lists what is allowed, not what is forbidden: system calls are added with every kernel, and a list of bad ones is open for
// the other calling conventions of the processor (int 0x80). It has no calls that look into other processes (ptrace, process_vm_readv),
// run programs (execve), mount, load or trace anything, or make namespaces, keys, io_uring rings or memory to be run. What is not on it
// is EPERM.
//
// Names that an architecture lacks are left out there.
var allowed = []string{
	// The runtime: memory, threads, signals, clocks, events.
	"munmap", "madvise", "mremap", "mincore", "brk", "futex", "exit", "exit_group", "restart_syscall", "rseq", "set_robust_list",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "sched_yield", "sched_getaffinity", "membarrier",
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom",
	"gettid", "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrlimit", "uname", "sysinfo", "getrusage",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2", "poll", "ppoll",
	// Descriptors.
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "close_range", "lseek", "dup", "dup3",
	"sendfile", "splice", "copy_file_range",
	// Files. Landlock says which.
	"open", "openat", "stat", "lstat", "fstat", "newfstatat", "fstatat", "statx", "access", "faccessat", "faccessat2", "getdents64", "getcwd",
	"readlink", "readlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat", "rmdir",
	"fsync", "fdatasync", "ftruncate", "truncate", "fallocate", "fadvise64", "flock", "umask", "utimensat", "chmod", "fchmod", "fchmodat",
	"getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr", "statfs", "fstatfs",
	// Connections that are there.
	"accept", "accept4", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
}

// errNoSeccomp: the kernel, or the library for this processor, has no filters.
var errNoSeccomp = errors.New("not available here")

// absent are calls that answer as they do on an old kernel, so that a library takes what it used before: clone3 has its flags, and openat2
// its way, where no filter sees them.
var absent = seccomp.SyscallGroup{Names: []string{"clone3", "openat2"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)}

// seccomp loads the filters into all threads. Each call that is refused in some ways has a filter of its own, under which all others are
// allowed; the kernel takes the strictest answer. In one program the library would go on comparing after a condition failed, with an
// argument in place of the call's number.
func (l Limits) seccomp() error {
	processor, err := arch.GetInfo("")
	if err != nil || len(processor.SyscallNames) == 0 {
		return fmt.Errorf("%w: %s", errNoSeccomp, runtime.GOARCH)
	}
	if !seccomp.Supported() {
		return fmt.Errorf("%w: by the kernel", errNoSeccomp)
	}
	exists := func(name string) bool { _, ok := processor.SyscallNames[name]; return ok }
	var filters []seccomp.Policy
	allow := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	for name, refused := range l.refused() {
		if exists(name) {
			allow.Names = append(allow.Names, name)
			refuse := seccomp.SyscallGroup{Action: seccomp.ActionErrno}
			for _, conditions := range refused {
				refuse.NamesWithCondtions = append(refuse.NamesWithCondtions, seccomp.NameWithConditions{Name: name, Conditions: conditions})
			}
			filters = append(filters, seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{refuse}})
		}
	}
	for _, name := range allowed {
		if exists(name) {
			allow.Names = append(allow.Names, name)
		}
	}
	// The last one, as it allows no more filters.
	filters = append(filters, seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{allow, absent}})

	// The thread that loads them must have no_new_privs, which it gives to the others.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := seccomp.SetNoNewPrivs(); err != nil {
		return err
	}
	for _, policy := range filters {
		if err := seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync, Policy: policy}); err != nil {
			return err
		}
	}
	return nil
}

// newNamespaces are the flags of clone(2) that would make any.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
	unix.CLONE_NEWCGROUP

// unixAddress is the size that a socket address has with a path of so many octets, as Go makes it.
func unixAddress(path string) uint64 { return uint64(2 + len(path) + 1) }

// refused are the calls that are allowed but for some of their arguments' values: where all the conditions of one of the sets are met.
func (l Limits) refused() map[string][]seccomp.ArgumentConditions {
	self := uint64(os.Getpid())
	when := func(conditions ...seccomp.Condition) seccomp.ArgumentConditions { return conditions }
	isNot := func(argument uint32, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: value}
	}
	has := func(argument uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.BitsSet, Value: bits}
	}
	lacks := func(argument uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
	}
	const stream = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	return map[string][]seccomp.ArgumentConditions{
		// No memory is run.
		"mmap":     {when(has(2, unix.PROT_EXEC))},
		"mprotect": {when(has(2, unix.PROT_EXEC))},
		// Threads, no processes.
		"clone":  {when(lacks(0, unix.CLONE_THREAD)), when(has(0, newNamespaces))},
		"tgkill": {when(isNot(0, self))},
		"kill":   {when(isNot(0, self), isNot(1, 0))}, // 0: whether a process is there
		// Its own limits; and Go gives its memory names.
		"prlimit64": {when(isNot(0, 0))},
		"prctl":     {when(isNot(0, unix.PR_SET_VMA))},
		// Not who is sent a signal when something comes in, and which (F_SETOWN, F_SETSIG).
		"fcntl": {when(isNot(1, unix.F_DUPFD), isNot(1, unix.F_DUPFD_CLOEXEC), isNot(1, unix.F_GETFD), isNot(1, unix.F_SETFD),
			isNot(1, unix.F_GETFL), isNot(1, unix.F_SETFL))},
		// The only socket that it makes is one to the node. A listening socket, or a client's, can be disconnected and then connected to
		// anywhere (AF_UNSPEC), and old Landlocks let it: but an Internet address takes 16 octets at least, and ours is shorter.
		"socket":  {when(isNot(0, unix.AF_UNIX)), when(isNot(1, stream)), when(isNot(2, 0))},
		"connect": {when(isNot(2, unixAddress(l.Socket)))},
	}
}
