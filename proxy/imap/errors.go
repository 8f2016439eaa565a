package imap

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// Response codes that the library has no names for.
const (
	codeExpungeIssued imap.ResponseCode = "EXPUNGEISSUED" // RFC 5530
	codeUseAttr       imap.ResponseCode = "USEATTR"       // RFC 6154
)

func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func badCommand(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: text}
}

// missing is the answer when some of the messages are gone that a client asked for: a sequence number promised a message (RFC 2180,
// 4.1.2), a UID did not (RFC 9051, 6.4.9).
func missing(set imap.NumSet) error {
	if _, ok := set.(imap.UIDSet); ok {
		return nil
	}
	return no(codeExpungeIssued, "Some of the messages are expunged") // RFC 5530
}

// errnoAnswers says how failures of the file system are told to clients (RFC 5530). The first match counts.
var errnoAnswers = []struct {
	err  error
	code imap.ResponseCode
	text string
}{
	{maildir.ErrFolderName, imap.ResponseCodeCannot, "Not a name that a mailbox can have"},
	{syscall.EDQUOT, imap.ResponseCodeOverQuota, "Mailbox is over its quota"},
	{syscall.ENOKEY, imap.ResponseCodeUnavailable, "Account is locked, log in again"},
	{syscall.ENOSPC, imap.ResponseCodeUnavailable, "No space left on the server"},
	{syscall.EKEYREJECTED, imap.ResponseCodeCannot, "Sealed to a key that was discarded"},
	{syscall.EIO, imap.ResponseCodeUnavailable, "Storage does not answer, try again later"},
	{syscall.ETIMEDOUT, imap.ResponseCodeUnavailable, "Storage does not answer, try again later"},
	{syscall.ENOTCONN, imap.ResponseCodeUnavailable, "Storage does not answer, try again later"},
	{syscall.EROFS, imap.ResponseCodeUnavailable, "Storage is read-only at the moment"},
	{syscall.ENAMETOOLONG, imap.ResponseCodeCannot, "Name is too long"},
	{syscall.ENOTEMPTY, imap.ResponseCodeInUse, "Mailbox is in use"},
	{syscall.EMFILE, imap.ResponseCodeLimit, "Too many open files on the server"},
	{syscall.EMLINK, imap.ResponseCodeLimit, "Too many copies of this message"},
	{fs.ErrNotExist, imap.ResponseCodeNonExistent, "No such mailbox"},
	{fs.ErrExist, imap.ResponseCodeAlreadyExists, "Mailbox exists already"},
	{fs.ErrPermission, imap.ResponseCodeNoPerm, "Not permitted"},
}

// failed makes the error of a file operation one that the library can send. Errors without an answer of their own are logged:
// they should not happen.
func (s *session) failed(operation string, err error) error {
	var answer *imap.Error
	if err == nil || errors.As(err, &answer) {
		return err
	}
	for _, a := range errnoAnswers {
		if errors.Is(err, a.err) {
			if a.code == imap.ResponseCodeUnavailable || a.code == imap.ResponseCodeNoPerm {
				s.log.Warn("storage", "operation", operation, "err", errno(err))
			}
			return no(a.code, a.text)
		}
	}
	if err := s.over(); err != nil {
		return err
	}
	s.log.Error("unexpected failure", "operation", operation, "err", errno(err))
	return no(imap.ResponseCodeServerBug, "Internal error, see the server's log")
}

// over is the error of a session that has ended, nil while it has not. Whatever goes over many messages asks it at each.
func (s *session) over() error {
	if s.ctx.Err() != nil {
		return no(imap.ResponseCodeUnavailable, "Session has ended")
	}
	return nil
}

// errno returns the cause of a file operation's error without the path, which has folder and message names in it.
func errno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// isFileLimit tells the errors of accept that pass.
func isFileLimit(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
