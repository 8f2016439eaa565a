package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/config"
)

// exit is how the program ends.
type exit struct {
	code int
	what string
}

// The exit codes, all of them.
var (
	exitDone      = exit{0, "done"}
	exitFailed    = exit{1, "failed, or problems were found (fsck, status)"}
	exitUsage     = exit{2, "wrong arguments, or a configuration that cannot be used"}
	exitNoDaemon  = exit{3, "the daemon is not running, or its socket is not this user's"}
	exitNotFound  = exit{4, "no such domain, account, alias or file"}
	exitExists    = exit{5, "it exists already"}
	exitRefused   = exit{6, "refused: wrong password, locked, in use, not confirmed"}
	exitTemporary = exit{7, "not now: no leader, no space, timeout; trying again may help"}
)

var exits = []exit{exitDone, exitFailed, exitUsage, exitNoDaemon, exitNotFound, exitExists, exitRefused, exitTemporary}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "  %d  %s\n", e.code, e.what)
	}
	return b.String()
}

// failure is an error with the way in which it ends the program.
type failure struct {
	exit  exit
	err   error
	quiet bool // what there is to say was said, or who started the program knows
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(format string, args ...any) error {
	return &failure{exit: exitUsage, err: fmt.Errorf(format, args...)}
}
func refused(format string, args ...any) error {
	return &failure{exit: exitRefused, err: fmt.Errorf(format, args...)}
}

// errSilent ends the program without another word.
var errSilent = &failure{exitFailed, errors.New("problems were found"), true}

var codeExits = map[codes.Code]exit{
	codes.InvalidArgument:    exitUsage,
	codes.NotFound:           exitNotFound,
	codes.AlreadyExists:      exitExists,
	codes.FailedPrecondition: exitRefused,
	codes.Unauthenticated:    exitRefused,
	codes.PermissionDenied:   exitRefused,
	codes.Unavailable:        exitTemporary,
	codes.ResourceExhausted:  exitTemporary,
	codes.DeadlineExceeded:   exitTemporary,
	codes.Aborted:            exitTemporary,
}

// exitOf says how err ends the program, and in which words.
func exitOf(err error) (exit, string) {
	var f *failure
	switch {
	case err == nil:
		return exitDone, ""
	case errors.As(err, &f):
		return f.exit, f.Error()
	case errors.Is(err, config.ErrConfig):
		return exitUsage, err.Error()
	case errors.Is(err, adminapi.ErrNotRunning), errors.Is(err, adminapi.ErrForbidden):
		return exitNoDaemon, err.Error()
	case errors.Is(err, context.Canceled):
		return exitFailed, "interrupted"
	case errors.Is(err, syscall.ENOENT):
		return exitNotFound, err.Error()
	}
	if st, ok := status.FromError(err); ok {
		if e, known := codeExits[st.Code()]; known {
			return e, st.Message()
		}
		return exitFailed, st.Message()
	}
	return exitFailed, err.Error()
}
