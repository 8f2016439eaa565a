package smtp

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// data is DATA (RFC 5321, 4.1.1.4).
func (c *conn) data(arg string) {
	switch {
	case arg != "":
		c.answer(replyNoArgument)
		return
	case c.mail == nil || len(c.mail.recipients) == 0 || c.mail.transfer != nil: // RFC 2033, 4.2; RFC 3030, 2
		c.answer(replySequence)
		return
	}
	t := c.begin()
	c.reply(reply{354, "", "End data with <CR><LF>.<CR><LF>"})
	if c.flush() != nil {
		c.closing = true
		return
	}
	c.in.enlarge()
	var dots dotDecoder
	begun := time.Now()
	for {
		consumed, done := dots.decode(c.in.pending(), t.write)
		c.in.skip(consumed)
		if done {
			break
		}
		if err := c.more(begun); err != nil {
			c.readFailed(err)
			return
		}
	}
	c.deliver()
}

// more reads more of a message that began then. The deadline moves with every read.
func (c *conn) more(begun time.Time) error {
	deadline := time.Now().Add(c.cfg.DataTimeout)
	if last := begun.Add(c.cfg.MessageTimeout); last.Before(deadline) {
		deadline = last
	}
	c.setReadDeadline(deadline)
	return c.in.fill()
}

// bdat is BDAT (RFC 3030, 2). The octets of a chunk follow the command whatever the answer is, so they are read in any case, however
// many: a client that is closed upon in the middle of them may never see why. Where their number is not known, the connection
// ends: they must not be taken for commands.
func (c *conn) bdat(arg string) {
	number, mode, _ := strings.Cut(arg, " ")
	size, err := strconv.ParseInt(number, 10, 64)
	last := strings.EqualFold(mode, "LAST")
	malformed := reply{501, "5.5.4", "Malformed BDAT"}
	switch {
	case !isNumber(number) || err != nil:
		c.replyClosing(malformed)
		return
	case mode != "" && !last:
		c.discardChunk(size, malformed)
		return
	case c.mail == nil || len(c.mail.recipients) == 0:
		c.discardChunk(size, replySequence)
		return
	}
	t := c.mail.transfer
	if t == nil {
		t = c.begin()
	}
	switch {
	case !c.chunk(size, t.write):
	case last:
		c.deliver()
	case t.hopeless():
		// RFC 3030, 2: what else comes for this message is out of sequence.
		refusal := *t.refusal
		c.resetMail()
		c.answer(refusal)
	default:
		c.answer(reply{250, "2.0.0", "Chunk taken"})
	}
}

// discardChunk reads a chunk away and refuses it.
func (c *conn) discardChunk(size int64, refusal reply) {
	if c.chunk(size, func([]byte) {}) {
		c.answer(refusal)
	}
}

// chunk reads size bytes and hands them to write, in pieces. It returns false when the connection broke before their end.
func (c *conn) chunk(size int64, write func([]byte)) bool {
	c.in.enlarge()
	begun := time.Now()
	for {
		piece := c.in.pending()
		piece = piece[:min(int64(len(piece)), size)]
		if len(piece) > 0 {
			write(piece)
			c.in.skip(len(piece))
			size -= int64(len(piece))
		}
		if size == 0 {
			return true
		}
		if err := c.more(begun); err != nil {
			c.readFailed(err)
			return false
		}
	}
}

// begin makes the transfer of the transaction's message, and the id that its trace lines, the reply and the log share.
func (c *conn) begin() *transfer {
	c.mail.id = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, rand.Uint64()))
	copies := c.mail.address(&trace{
		helo: c.helo, remote: c.remote, hostname: c.cfg.Hostname,
		protocol: protocolName(c.cfg.LMTP, c.extended, c.mail.utf8, c.tls != nil, c.login != nil),
		tls:      c.tls, id: c.mail.id, from: c.mail.from, at: time.Now(),
	})
	c.mail.transfer = newTransfer(copies, !c.cfg.LMTP, c.cfg.MaxMessageBytes)
	if c.cfg.LMTP {
		c.mail.transfer.recipients = c.mail.recipients
	}
	if c.login != nil {
		c.mail.transfer.checkHeader = c.checkHeader
	}
	return c.mail.transfer
}

// deliver commits the message that has come in whole and gives its reply, or in LMTP its replies: one for each recipient, in
// the order of the RCPTs (RFC 2033, 4.2). It ends the transaction.
func (c *conn) deliver() {
	if c.isExpelled() {
		c.readFailed(os.ErrDeadlineExceeded)
		return
	}
	m := c.mail
	refusal := m.transfer.finish()
	c.logDelivery(refusal)
	c.mail = nil
	delivered := reply{250, "2.0.0", "Delivered as " + m.id}
	if c.cfg.LMTP {
		for _, r := range m.recipients {
			answer := outcome(r.copies, refusal, delivered)
			answer.text = "<" + r.path.String() + "> " + answer.text
			c.reply(answer)
		}
	} else {
		c.reply(outcome(m.transfer.copies, refusal, delivered))
	}
	if c.flush() != nil { // now: a client that does not hear of it sends it again
		c.closing = true
	}
}

// outcome is the reply about some copies of a message: positive when all of them are in.
func outcome(copies []*copyFor, refusal *reply, delivered reply) reply {
	if refusal != nil {
		return *refusal
	}
	if err := failure(copies); err != nil {
		return storeReply(err)
	}
	return delivered
}

func (c *conn) logDelivery(refusal *reply) {
	m := c.mail
	log := c.cfg.Logger.With("id", m.id, "remote", c.remote.String(), "from", m.from.String(), "size", m.transfer.size)
	if c.login != nil {
		log = log.With("account", c.login.Mailbox().Account)
	}
	if refusal != nil {
		log.Warn("message refused", "reply", refusal.code, "status", refusal.enhanced, "recipients", len(m.recipients))
	}
	failed := 0
	for _, copied := range m.transfer.copies {
		if copied.err != nil {
			failed++
			level := slog.LevelError
			if errors.Is(copied.err, unix.EDQUOT) {
				level = slog.LevelInfo // its owner's to mend
			}
			log.Log(context.Background(), level, "message not stored", "home", copied.home, "error", copied.err)
		}
	}
	if refusal == nil {
		log.Info("message delivered", "copies", len(m.transfer.copies)-failed, "failed", failed)
	}
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
