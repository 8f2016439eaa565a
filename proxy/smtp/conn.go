package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// conn is a client's connection. All but interrupt, expel and breakOff belongs to the goroutine of serve.
type conn struct {
	server *Server
	cfg    *Config
	remote net.Addr
	raw    net.Conn // as accepted
	net    net.Conn // raw, or TLS on it
	tls    *tls.ConnectionState
	in     *input
	out    *bufio.Writer

	helo     string // "" before a greeting
	extended bool   // greeted by EHLO or LHLO
	mail     *mail  // nil outside a mail transaction
	mistakes int
	refused  int  // recipients
	closing  bool // no more commands

	authUntil time.Time // when a client must have logged in
	login     *login    // nil before AUTH
	failures  int       // of logins

	mu          sync.Mutex
	interrupted bool // a shutdown wants the connection to end at the next command
	waiting     bool // between commands: interrupt may end the wait
	expelled    bool // the node has ended the session: nothing more is to be read
}

func newConn(s *Server, netConn net.Conn) *conn {
	c := &conn{server: s, cfg: &s.cfg, remote: netConn.RemoteAddr(), raw: netConn, authUntil: time.Now().Add(s.cfg.AuthTimeout)}
	c.use(netConn)
	return c
}

// use makes nc what the dialogue goes over. What was read before and not consumed is forgotten.
func (c *conn) use(nc net.Conn) {
	c.net = nc
	c.in = newInput(nc, c.flush, c.cfg.MaxLineLength)
	c.out = bufio.NewWriterSize(nc, 1<<10)
}

// flush hands the replies to the client. Replies to pipelined commands go together (RFC 2920, 3.2).
func (c *conn) flush() error {
	if c.out.Buffered() == 0 {
		return nil
	}
	c.net.SetWriteDeadline(time.Now().Add(c.cfg.ReplyTimeout))
	return c.out.Flush()
}

func (c *conn) reply(r reply) {
	c.out.Write(r.append(c.out.AvailableBuffer())) // an error sticks, and flush tells it
}

// replyClosing gives a last reply.
func (c *conn) replyClosing(r reply) {
	c.reply(r)
	c.closing = true
}

// serve holds the dialogue, which begins with a TLS handshake or not.
func (c *conn) serve(implicitTLS bool) {
	defer c.end()
	defer func() {
		if cause := recover(); cause != nil {
			c.cfg.Logger.Error("panic in a connection", "remote", c.remote, "cause", cause, "stack", string(debug.Stack()))
			c.reply(reply{421, "4.3.0", "Internal error"})
			c.flush()
		}
	}()
	if implicitTLS && !c.handshake() {
		return
	}
	c.reply(reply{220, "", c.cfg.Hostname + c.greeting()})
	for !c.closing {
		line, err := c.nextLine(c.cfg.MaxLineLength)
		switch {
		case err == nil && c.cfg.submission() && isAuth(line):
			c.auth(line)
		case err == nil:
			cmd, ok := parseCommand(line)
			if !ok {
				c.answer(replySyntax)
				break
			}
			c.do(cmd)
		case errors.Is(err, errBareLF): // RFC 5321, 2.3.8: no line end, so what follows is no command
			c.replyClosing(replyBareLF)
		case errors.Is(err, errLineTooLong):
			c.answer(replyTooLong)
		default:
			c.readFailed(err)
		}
	}
	c.flush()
}

// end gives back what the connection holds. Over TLS, closing says so to the client first.
func (c *conn) end() {
	c.resetMail()
	c.logOut()
	c.in.reduce()
	c.net.Close()
}

func (c *conn) greeting() string {
	if c.cfg.LMTP {
		return " LMTP Mailraft"
	}
	return " ESMTP Mailraft"
}

// nextLine waits for a command line, or a response, of at most limit bytes.
func (c *conn) nextLine(limit int) ([]byte, error) {
	if limit > len(c.in.small) {
		c.in.enlarge()
	} else {
		c.in.reduce()
	}
	deadline := time.Now().Add(c.cfg.CommandTimeout)
	if c.cfg.submission() && c.login == nil && c.authUntil.Before(deadline) {
		deadline = c.authUntil
	}
	c.mu.Lock()
	if c.interrupted || c.expelled {
		c.mu.Unlock()
		return nil, os.ErrDeadlineExceeded
	}
	c.waiting = true
	c.net.SetReadDeadline(deadline)
	c.mu.Unlock()

	line, err := c.in.line(limit)

	c.mu.Lock()
	c.waiting = false
	c.mu.Unlock()
	return line, err
}

// interrupt makes a connection between commands end now, and another one at its next command. Any goroutine may call it.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	if c.waiting {
		c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// expel makes a connection end whose session the node has ended, also in the midst of a message. Any goroutine may call it.
func (c *conn) expel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expelled = true
	c.raw.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) isExpelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expelled
}

func (c *conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.expelled {
		c.net.SetReadDeadline(t)
	}
}

// breakOff ends the connection whatever it does. Any goroutine may call it.
func (c *conn) breakOff() { c.raw.Close() }

// readFailed ends the dialogue: nothing more can be read, or must be. Whatever a client sends behind the middle of a message is
// not a command.
func (c *conn) readFailed(err error) {
	c.closing = true
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			c.cfg.Logger.Debug("connection broke", "remote", c.remote, "error", err)
		}
	case c.isExpelled():
		c.reply(reply{421, "4.7.0", c.cfg.Hostname + " has ended the session, log in again"})
	case c.server.isClosed(): // RFC 5321, 3.8
		c.reply(reply{421, "4.3.2", c.cfg.Hostname + " is shutting down"})
	default:
		c.reply(reply{421, "4.4.2", c.cfg.Hostname + " has waited too long"})
	}
}

// answer gives the reply to a command, and ends the dialogue after too many bad ones.
func (c *conn) answer(r reply) {
	c.reply(r)
	if !r.bad() {
		return
	}
	if c.mistakes++; c.mistakes >= c.cfg.MaxBadCommands {
		c.replyClosing(reply{421, "4.7.0", c.cfg.Hostname + " has seen too many bad commands"})
	}
}

// countRefused ends the dialogue with a client that tries one address after the other.
func (c *conn) countRefused(r reply) {
	if r.code != 550 || c.cfg.LMTP {
		return
	}
	if c.refused++; c.refused >= c.cfg.MaxRefusedRecipients {
		c.replyClosing(reply{421, "4.7.0", c.cfg.Hostname + " has refused too many recipients, try others again later"})
	}
}

// do carries out a command (RFC 5321, 4.1; RFC 2033, 4.1; RFC 3030, 2; RFC 3207, 4).
func (c *conn) do(cmd command) {
	switch cmd.verb {
	case "HELO", "EHLO", "LHLO":
		c.greet(cmd)
	case "MAIL":
		c.answer(c.mailFrom(cmd.arg))
	case "RCPT":
		r := c.rcptTo(cmd.arg)
		c.answer(r)
		c.countRefused(r)
	case "DATA":
		c.data(cmd.arg)
	case "BDAT":
		c.bdat(cmd.arg)
	case "RSET":
		if cmd.arg != "" {
			c.answer(replyNoArgument)
			return
		}
		c.resetMail()
		c.answer(reply{250, "2.0.0", "Flushed"})
	case "NOOP":
		c.answer(reply{250, "2.0.0", "Ok"})
	case "VRFY": // 7.3: the answer to everybody's question would be a list of users
		c.answer(reply{252, "2.5.2", "Cannot verify; send it and see"})
	case "HELP":
		c.answer(reply{214, "2.0.0", "See RFC 5321"})
	case "QUIT":
		if cmd.arg != "" {
			c.answer(replyNoArgument)
			return
		}
		c.replyClosing(reply{221, "2.0.0", c.cfg.Hostname + " closes the connection"})
	case "STARTTLS":
		c.startTLS(cmd.arg)
	case "EXPN", "AUTH", "TURN", "ETRN", "SEND", "SOML", "SAML":
		c.answer(reply{502, "5.5.1", "Command not implemented"})
	default:
		c.answer(reply{500, "5.5.1", "Command unrecognized"})
	}
}

// startTLS is RFC 3207, 4: what was known of the client before is forgotten.
func (c *conn) startTLS(arg string) {
	switch {
	case arg != "":
		c.answer(replyNoArgument)
		return
	case c.cfg.TLSConfig == nil:
		c.answer(reply{502, "5.5.1", "TLS is not available"})
		return
	case c.tls != nil:
		c.answer(reply{503, "5.5.1", "TLS is in use already"})
		return
	case len(c.in.pending()) > 0:
		// Commands slipped in behind STARTTLS, without encryption, must not be taken for the client's own.
		c.replyClosing(reply{503, "5.5.1", "Nothing may follow STARTTLS before the handshake"})
		return
	}
	c.reply(reply{220, "2.0.0", "Go ahead"})
	if c.flush() != nil {
		c.closing = true
		return
	}
	c.helo, c.extended = "", false
	c.resetMail()
	c.logOut()
	if !c.handshake() {
		c.closing = true
	}
}

// handshake goes on under TLS; false when that fails.
func (c *conn) handshake() bool {
	secured := tls.Server(c.raw, c.cfg.TLSConfig)
	ctx, cancel := context.WithTimeout(c.server.context, c.cfg.ReplyTimeout)
	defer cancel()
	c.raw.SetDeadline(time.Time{})
	if err := secured.HandshakeContext(ctx); err != nil {
		c.cfg.Logger.Debug("TLS handshake failed", "remote", c.remote, "error", err)
		return false
	}
	state := secured.ConnectionState()
	c.tls = &state
	c.use(secured)
	return true
}
