package smtp

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"mailraft/proxy"
)

// reply is an answer of one line: a code of RFC 5321, an enhanced one of RFC 3463 (or none), and words.
type reply struct {
	code     int
	enhanced string
	text     string
}

// append appends the reply as it goes over the wire.
func (r reply) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(r.code), 10)
	b = append(b, ' ')
	if r.enhanced != "" {
		b = append(b, r.enhanced...)
		b = append(b, ' ')
	}
	b = append(b, r.text...)
	return append(b, "\r\n"...)
}

// bad says whether the reply tells of a mistake in the dialogue itself, which counts against Config.MaxBadCommands.
func (r reply) bad() bool { return r.code >= 500 && r.code <= 504 || r.code == 555 }

// The replies that more than one command gives.
var (
	replySequence   = reply{503, "5.5.1", "Bad sequence of commands"}
	replyNoArgument = reply{501, "5.5.4", "This command takes no argument"}
	replySyntax     = reply{500, "5.5.2", "Syntax error"}
	replyBareLF     = reply{500, "5.5.2", "Lines end with CRLF"}
	replyTooLong    = reply{500, "5.5.2", "Line too long"}
	replyTooLarge   = reply{552, "5.3.4", "Message is larger than this server takes"}
	replyLoop       = reply{554, "5.4.6", "Too many hops, this message is in a loop"}
	replyOverQuota  = reply{452, "4.2.2", "Mailbox is over its quota"}
	replyDiskFull   = reply{452, "4.3.1", "Insufficient storage, try again later"}
	replyTemporary  = reply{451, "4.3.0", "Temporary failure, try again later"}
)

// lookUpReply is the answer to a recipient that cannot be had.
func lookUpReply(err error) reply {
	switch {
	case errors.Is(err, proxy.ErrNoSuchDomain):
		return reply{550, "5.7.1", "Relaying denied"}
	case errors.Is(err, proxy.ErrNoSuchUser):
		return reply{550, "5.1.1", "No such user here"}
	case errors.Is(err, proxy.ErrOverQuota):
		return replyOverQuota
	default:
		return replyTemporary
	}
}

// storeReply is the answer to a message that cannot be stored. Nothing but a message too large is for ever.
func storeReply(err error) reply {
	switch {
	case errors.Is(err, unix.EDQUOT):
		return replyOverQuota
	case errors.Is(err, unix.ENOSPC):
		return replyDiskFull
	case errors.Is(err, unix.EFBIG):
		return replyTooLarge
	default:
		return replyTemporary
	}
}
