package pop3

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// maxCommandLine is the longest command, in octets with its CRLF (RFC 2449, 4).
	maxCommandLine = 255
	// maxSASLLine is the longest line of a SASL exchange, to which the limit of commands does not apply (RFC 5034, 4). PLAIN
	// needs 1,026 octets for the longest names and password that RFC 4616 asks for.
	maxSASLLine = 4096
	// maxSkipped is how much of an overlong line is skipped before the connection is given up.
	maxSkipped = 64 << 10
	// writeBuffer holds answers until the client has nothing more to say (RFC 2449, 6.6).
	writeBuffer = 16 << 10
)

var (
	// errLineTooLong is the error of a line above its limit; it has been skipped, and reading may go on.
	errLineTooLong = errors.New("line too long")
	// errFlood is the error of a line that does not end.
	errFlood = errors.New("endless line")
)

// conn reads lines from a client and writes to it. One goroutine uses it, but interrupt may be called by any.
//
// What is written is buffered, and sent before conn waits for the client: the answers to pipelined commands travel together.
type conn struct {
	raw          net.Conn // as accepted
	nc           net.Conn // raw, or TLS above it
	r            *bufio.Reader
	w            *bufio.Writer
	writeTimeout time.Duration

	mu          sync.Mutex
	interrupted bool
}

func newConn(nc net.Conn, writeTimeout time.Duration) *conn {
	c := &conn{raw: nc, nc: nc, writeTimeout: writeTimeout}
	c.r = bufio.NewReaderSize(flushingReader{c}, maxSASLLine)
	c.w = bufio.NewWriterSize(deadlineWriter{c}, writeBuffer)
	return c
}

// readLine returns the next line without its CRLF (or LF), which is at most limit octets long with it. The line is valid until the
// next call, and the caller wipes it. After errLineTooLong reading may go on, any other error is the end of the connection.
// All of the line has to come before the deadline: a client that sends a byte now and then does not live longer by it.
func (c *conn) readLine(limit int, deadline time.Time) ([]byte, error) {
	c.setReadDeadline(deadline)
	line, err := c.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return nil, c.skipLine(line)
	}
	if err != nil {
		clear(line) // half a line is no command
		return nil, err
	}
	if len(line) > limit {
		clear(line)
		return nil, errLineTooLong
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// skipLine reads to the end of a line whose beginning is given.
func (c *conn) skipLine(part []byte) error {
	err := error(bufio.ErrBufferFull)
	for skipped := 0; err == bufio.ErrBufferFull; part, err = c.r.ReadSlice('\n') {
		skipped += len(part)
		clear(part)
		if skipped > maxSkipped {
			return errFlood
		}
	}
	clear(part)
	if err != nil {
		return err
	}
	return errLineTooLong
}

// startTLS does the server's side of a TLS handshake. What the client sent before it is thrown away: it came unprotected, and
// must not be taken for commands of the protected session (the injection of CVE-2011-0411; RFC 2595, 4).
func (c *conn) startTLS(ctx context.Context, cfg *tls.Config, deadline time.Time) (*tls.ConnectionState, error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	c.wipe()
	c.setReadDeadline(deadline)
	if err := c.raw.SetWriteDeadline(deadline); err != nil {
		return nil, err
	}
	tc := tls.Server(c.raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	c.nc = tc
	c.r.Reset(flushingReader{c})
	state := tc.ConnectionState()
	return &state, nil
}

// wipe forgets what was read but not used yet.
func (c *conn) wipe() {
	rest, _ := c.r.Peek(c.r.Buffered())
	clear(rest)
	c.r.Reset(flushingReader{c})
}

// interrupt ends the wait for the client's next command, now or when it begins.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	c.raw.SetReadDeadline(time.Unix(1, 0))
}

// isInterrupted says whether no further command is to be carried out.
func (c *conn) isInterrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interrupted
}

func (c *conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.interrupted {
		c.raw.SetReadDeadline(t)
	}
}

// close sends what is still to be sent, if it can, and closes the connection.
func (c *conn) close() {
	c.w.Flush()
	c.wipe()
	c.nc.Close()
}

// flushingReader reads from the client, after sending it what it waits for.
type flushingReader struct{ c *conn }

func (f flushingReader) Read(p []byte) (int, error) {
	if err := f.c.w.Flush(); err != nil {
		return 0, err
	}
	return f.c.nc.Read(p)
}

// deadlineWriter writes to the client, which has some time for each piece.
type deadlineWriter struct{ c *conn }

func (d deadlineWriter) Write(p []byte) (int, error) {
	if err := d.c.raw.SetWriteDeadline(time.Now().Add(d.c.writeTimeout)); err != nil {
		return 0, err
	}
	return d.c.nc.Write(p)
}
