package adminapi

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/fs/keyring"
	"mailraft/raftstore"
)

// kinds says which code each error has; the first that matches.
var kinds = []struct {
	err  error
	code codes.Code
}{
	{access.ErrUnsure, codes.Unavailable},
	{raftstore.ErrNoSuchDomain, codes.NotFound},
	{raftstore.ErrNoSuchAccount, codes.NotFound},
	{raftstore.ErrNoSuchAlias, codes.NotFound},
	{raftstore.ErrExists, codes.AlreadyExists},
	{raftstore.ErrDomainInUse, codes.FailedPrecondition},
	{raftstore.ErrAliased, codes.FailedPrecondition},
	{raftstore.ErrAddress, codes.InvalidArgument},
	{raftstore.ErrNoSuchShard, codes.NotFound},
	{raftstore.ErrInShard, codes.AlreadyExists},
	{raftstore.ErrMoves, codes.FailedPrecondition},
	{keyring.ErrWrongPassword, codes.Unauthenticated},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{syscall.ENOENT, codes.NotFound},
	{syscall.ENOTDIR, codes.NotFound},
	{syscall.ENOSPC, codes.ResourceExhausted},
	{syscall.EROFS, codes.Unavailable},
	{syscall.EIO, codes.Unavailable},
	{syscall.ETIMEDOUT, codes.Unavailable},
}

func code(err error) codes.Code {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return codes.Internal
}

// refusal is err as gRPC knows it, in words for people: without the errno behind a named error.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(code(err), words(err))
}

func words(err error) string {
	text := err.Error()
	for _, k := range kinds {
		if inner := errors.Unwrap(k.err); errors.Is(err, k.err) && inner != nil {
			text = strings.TrimSuffix(text, ": "+inner.Error())
		}
	}
	return text
}
