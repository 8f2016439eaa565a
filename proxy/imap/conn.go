package imap

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"mailraft/proxy/peer"
)

// conn is one client's connection, and what the library takes for its net.Conn.
//
// One goroutine reads: first that of the not authenticated state, then the library's. Answers are gathered and written when the
// reader is about to wait, or when there are many; whoever writes outside of a command (IDLE) calls flush.
type conn struct {
	server *Server
	raw    net.Conn  // the socket
	tls    *tls.Conn // nil without TLS

	session *session // set before the library gets the connection

	br *bufio.Reader
	frame
	failures int // failed logins

	wmu     sync.Mutex
	w       net.Conn // raw, or tls
	out     []byte   // answers not written yet
	werr    error    // first error of writing; sticks
	ended   bool     // BYE is written: nothing may follow
	greeted bool     // the library has sent its greeting
	bad     int      // commands answered BAD
	command          // the one under way

	mu      sync.Mutex
	waiting bool   // for the next command
	bye     string // reason to end at the next command boundary, "" for none

	closeOnce sync.Once
}

// command is what the writing side has to know of the command under way. Guarded by conn.wmu.
type command struct {
	tag       string
	name      string // upper case, "UID FETCH" for those with UID
	invited   bool   // the library wrote a continuation request
	muteInvit bool   // do not pass that on: the client does not wait for it
}

const (
	outSize    = 32 << 10 // answers gathered before they are written
	readBuffer = 8 << 10
)

type outBuffer [outSize]byte

var outBuffers = sync.Pool{New: func() any { return new(outBuffer) }}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{server: s, raw: raw, w: raw, br: bufio.NewReaderSize(raw, readBuffer)}
	c.frame.conn = c
	return c
}

// startTLS makes the connection a TLS server's. What a client sent in plain text before must not be taken for a command of the
// encrypted session (RFC 9051, 6.2.1), so the caller makes sure that nothing is buffered.
func (c *conn) startTLS() error {
	t := tls.Server(c.raw, c.server.cfg.TLSConfig)
	if !c.setWaiting(true) {
		return net.ErrClosed
	}
	if err := t.Handshake(); err != nil { // the login's deadline bounds it
		return err
	}
	c.setWaiting(false)
	c.wmu.Lock()
	c.tls, c.w = t, t
	c.wmu.Unlock()
	c.br.Reset(t)
	return nil
}

// mayLogIn says whether a password may cross this connection (RFC 9051, 6.2.3: LOGINDISABLED).
func (c *conn) mayLogIn() bool {
	return c.tls != nil || c.server.cfg.AllowPlaintextAuth || peer.IsLocal(c.raw.RemoteAddr())
}

// currentCommand returns the name of the command under way.
func (c *conn) currentCommand() string {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.command.name
}

// currentArguments returns what stands behind the name of the command under way, for the few things that the library does not
// pass on.
func (c *conn) currentArguments() string {
	return string(commandArgs(c.cmd))
}

var (
	errEnded       = fmt.Errorf("imap: connection ended: %w", net.ErrClosed)
	libraryBug     = []byte("NO [SERVERBUG] Internal server error\r\n")
	badAnswer      = []byte("BAD ")
	fetchEnd       = []byte(")\r\n")
	syntaxErrorEnd = "BAD [CLIENTBUG] Syntax error in arguments\r\n"
)

// Write takes an answer of the library's. It writes a line a call, or pieces of a literal.
func (c *conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.put(c.edit(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// edit sets the few of the library's lines right that our own layer has to decide on. Called with wmu held.
func (c *conn) edit(p []byte) []byte {
	if !c.greeted {
		c.greeted = true
		return nil // the library greets whom it takes over; our answer to the login has said all
	}
	if len(p) == 0 || len(p) > 512 || bytes.HasSuffix(p, fetchEnd) {
		return p // no status line is that long, and none ends like a FETCH response, the end of which may be a message's text
	}
	switch p[0] {
	case '+':
		if !c.invited && (c.name == "APPEND" || c.name == "IDLE") {
			c.invited = true
			if c.muteInvit {
				return nil
			}
		}
	default:
		rest, ok := bytes.CutPrefix(p, []byte(c.command.tag))
		if !ok || len(rest) == 0 || rest[0] != ' ' {
			break
		}
		rest = rest[1:]
		if bytes.Equal(rest, libraryBug) {
			// Our session never gives the library an error that is not in IMAP's terms, so this is its parser's own.
			c.bad++
			return []byte(c.command.tag + " " + syntaxErrorEnd)
		}
		if bytes.HasPrefix(rest, badAnswer) {
			c.bad++
		}
	}
	return p
}

// put gathers p, writing what there is when it gets much. Called with wmu held.
func (c *conn) put(p []byte) error {
	if c.ended {
		return errEnded
	}
	if c.werr != nil {
		return c.werr
	}
	large := len(p) >= outSize/2
	if large || len(c.out)+len(p) > outSize {
		if err := c.flushLocked(); err != nil {
			return err
		}
	}
	if large {
		return c.writeOut(p)
	}
	if c.out == nil && len(p) > 0 {
		c.out = outBuffers.Get().(*outBuffer)[:0]
	}
	c.out = append(c.out, p...)
	return nil
}

// writef writes an answer of our own.
func (c *conn) writef(format string, args ...any) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.put(fmt.Appendf(nil, format+"\r\n", args...))
}

// answer ends the command under way; status is the answer behind its tag.
func (c *conn) answer(status string) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if strings.HasPrefix(status, "BAD") {
		c.bad++
	}
	tag := c.command.tag
	if tag == "" {
		tag = "*"
	}
	return c.put([]byte(tag + " " + status + "\r\n"))
}

// flush writes all answers gathered.
func (c *conn) flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.flushLocked()
}

func (c *conn) flushLocked() error {
	if c.werr != nil {
		return c.werr
	}
	if len(c.out) == 0 {
		return nil
	}
	err := c.writeOut(c.out)
	outBuffers.Put((*outBuffer)(c.out[:outSize])) // an idle connection costs none
	c.out = nil
	return err
}

// writeOut writes p in pieces, each of which has TransferTimeout to get through. Called with wmu held.
func (c *conn) writeOut(p []byte) error {
	for len(p) > 0 && c.werr == nil {
		n := min(len(p), 256<<10)
		c.raw.SetWriteDeadline(time.Now().Add(c.server.cfg.TransferTimeout))
		if _, err := c.w.Write(p[:n]); err != nil {
			c.werr = err
		}
		p = p[n:]
	}
	return c.werr
}

// end says BYE and lets nothing follow. code is a response code (RFC 5530) or "".
func (c *conn) end(code, text string) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended {
		return
	}
	if code != "" {
		text = "[" + code + "] " + text
	}
	if c.put([]byte("* BYE "+text+"\r\n")) == nil {
		c.flushLocked()
	}
	c.ended = true
}

// endSoon ends the connection at the next command boundary: at once when it is waiting for one. It may be called at any time by
// any goroutine.
func (c *conn) endSoon(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye == "" {
		c.bye = text
	}
	if c.waiting {
		c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// setWaiting notes whether endSoon may break off what is going on; false when it has been called already.
func (c *conn) setWaiting(waiting bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = waiting
	return c.bye == ""
}

// await waits for the client to send the first byte of a command, and writes the answers so far before it does.
func (c *conn) await(timeout time.Duration) error {
	if b, _ := c.br.Peek(c.br.Buffered()); bytes.IndexByte(b, '\n') < 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	reason := c.bye
	if reason == "" {
		c.waiting = true
		c.raw.SetReadDeadline(time.Now().Add(timeout))
	}
	c.mu.Unlock()

	var err error
	if reason == "" {
		_, err = c.br.Peek(1)
		c.mu.Lock()
		c.waiting = false
		reason = c.bye
		c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.TransferTimeout))
		c.mu.Unlock()
	}
	switch {
	case reason != "":
		c.end("", reason)
		return io.EOF
	case isTimeout(err):
		c.end("", "Timed out waiting for a command") // RFC 9051, 5.4
		return io.EOF
	}
	return err
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// Close ends the connection for good; the library calls it last.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.flush()
		c.server.makeRoom(c)
		c.wmu.Lock()
		c.w.Close() // TLS says goodbye first
		c.wmu.Unlock()
		c.server.forget(c)
	})
	return nil
}

// LocalAddr, RemoteAddr and the deadlines complete net.Conn. The library's deadlines are ignored: await and writeOut set them.
func (c *conn) LocalAddr() net.Addr              { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr             { return c.raw.RemoteAddr() }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*conn)(nil)
