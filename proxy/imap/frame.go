package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// frame cuts what a client sends into commands (RFC 9051, 2.2.1 and 4.3).
//
// The library gets a command only when all of it is there and within the limits, in one line: the literals in it are turned into
// quoted strings, for when the library does not like a command it takes what stands behind a literal's announcement for the next
// one. Only the message of an APPEND streams. So the library never sees half a command, a literal that it would refuse, or the
// rest of a refused one.
type frame struct {
	conn    *conn
	cmd     []byte // the command being gathered
	pending []byte // of it, not handed to the library yet

	broken  error  // of reading; nothing comes after it
	offered upload // the message of an APPEND that the library has not asked for yet
	message int64  // bytes of the message that the library is reading still to come
	tail    string // what ends the command behind that message
}

// upload is a message that stands at the end of an APPEND command.
type upload struct {
	size    int64
	nonSync bool // the client sends it without being asked
	tail    string
}

var errBadTail = errors.New("imap: APPEND does not end behind its message")

// Read gives the library its next bytes: of one command at most.
func (c *conn) Read(p []byte) (n int, err error) {
	if c.broken == nil {
		n, c.broken = c.read(p)
	}
	return n, c.broken
}

func (c *conn) read(p []byte) (int, error) {
	if len(c.pending) == 0 && c.message == 0 {
		if err := c.advance(); err != nil {
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	return c.readMessage(p)
}

// advance finds out what the library is waiting for: the message it asked for, the line that ends its IDLE, or a command.
func (c *conn) advance() error {
	c.wmu.Lock()
	invited, name := c.invited, c.command.name
	c.invited = false
	c.wmu.Unlock()

	offered := c.offered
	c.offered = upload{}
	switch {
	case invited && name == "APPEND":
		c.message, c.tail = offered.size, offered.tail
		if offered.size == 0 {
			return c.readTail()
		}
		return c.flush()
	case invited: // IDLE
		if err := c.await(c.server.cfg.IdleTimeout); err != nil {
			return err
		}
		line, err := c.readLine(nil, 1024)
		if err == errTooLong {
			c.end("", "Protocol error") // nobody mistypes DONE by that much
			return io.EOF
		}
		if strings.EqualFold(strings.TrimRight(string(line), "\r\n"), "DONE") {
			line = []byte("DONE\r\n") // the library knows it in upper case alone
		}
		c.pending = line
		return unexpected(err)
	default: // its message may be refused, but sent all the same
		if err := c.discardLiteral(offered.size, offered.nonSync); err != nil {
			return err
		}
	}
	return c.nextCommand(c.server.cfg.IdleTimeout)
}

// readMessage reads a part of an APPEND's message. The last part is given out only when the command ends behind it as it should:
// so a message is stored by well-formed commands only, and one that is cut off never is.
func (c *conn) readMessage(p []byte) (int, error) {
	c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.TransferTimeout))
	if int64(len(p)) > c.message {
		p = p[:c.message]
	}
	n, err := c.br.Read(p)
	c.message -= int64(n)
	if c.message == 0 && err == nil {
		err = c.readTail()
	}
	if err != nil {
		c.message = 0
		return 0, unexpected(err)
	}
	return n, nil
}

// readTail reads what follows an APPEND's message: the end of the line, and before it ")" when there was "UTF8 (" (RFC 6855, 4).
// MULTIAPPEND is not offered.
func (c *conn) readTail() error {
	line, err := c.readLine(nil, 1024)
	if err != nil && err != errTooLong {
		return err
	}
	if err == errTooLong || strings.TrimRight(string(line), "\r\n") != c.tail {
		c.answer("BAD [CLIENTBUG] APPEND has one message, and ends behind it")
		c.end("", "Protocol error")
		return errBadTail
	}
	c.pending = line
	return nil
}

// nextCommand gathers the next command that is not answered by this layer alone.
func (c *conn) nextCommand(timeout time.Duration) error {
	for {
		if err := c.gather(timeout); err != nil {
			return err
		}
		if c.cmd != nil && !c.intercept() {
			c.pending = c.cmd
			return nil
		}
		if err := c.checkBad(); err != nil {
			return err
		}
	}
}

// checkBad ends connections of clients that only talk nonsense.
func (c *conn) checkBad() error {
	c.wmu.Lock()
	bad := c.bad
	c.wmu.Unlock()
	if bad > c.server.cfg.MaxBadCommands {
		c.end("", "Too many bad commands")
		return io.EOF
	}
	return nil
}

// gather reads one command into c.cmd. When it was refused, and answered, c.cmd is nil.
func (c *conn) gather(timeout time.Duration) error {
	if err := c.checkBad(); err != nil {
		return err
	}
	if err := c.await(timeout); err != nil {
		return err
	}
	cmd := c.cmd[:0]
	c.cmd = nil
	c.begin("", "")
	limit := c.server.cfg.MaxCommand
	for first := true; ; first = false {
		start := len(cmd)
		var err error
		cmd, err = c.readLine(cmd, limit-len(cmd))
		if first {
			c.begin(commandName(cmd))
		}
		if err == errTooLong {
			c.answer("BAD [LIMIT] Command line is too long")
			return c.discardCommand(cmd[start:])
		} else if err != nil {
			return unexpected(err)
		}
		line := cmd[start:]
		if bytes.IndexByte(line, 0) >= 0 || bareCR(line) || openQuote(line) {
			c.answer("BAD [CLIENTBUG] NUL, bare CR or an open quote in a line") // RFC 9051, 9: TEXT-CHAR, quoted
			return c.discardCommand(line)
		}
		size, marker, nonSync, ok := literal(line)
		if !ok {
			if looksLikeLiteral(line) {
				c.answer("BAD [CLIENTBUG] Malformed literal")
				return nil
			}
			break
		}
		if c.command.tag == "" {
			break // no command at all: its literal is none
		}
		if c.session == nil && c.command.name == "LOGIN" && !c.mayLogIn() {
			c.answer(privacyRequired) // before the client sends what nobody else may read
			return c.discardLiteral(size, nonSync)
		}
		if c.command.name == "APPEND" && isMessageLiteral(cmd) {
			// The library has to ask for it, so that it can refuse: its request is passed on to clients that wait for it.
			cmd = append(cmd[:start+marker], fmt.Sprintf("{%d}\r\n", size)...)
			c.offered = upload{size: size, nonSync: nonSync}
			if bytes.HasSuffix(line[:marker], []byte("(~")) {
				c.offered.tail = ")"
			}
			c.wmu.Lock()
			c.muteInvit = nonSync
			c.wmu.Unlock()
			break
		}
		if size > int64(c.server.cfg.MaxLiteral) || int64(len(cmd))+size > int64(limit) {
			c.answer(fmt.Sprintf("NO [TOOBIG] Literals are limited to %d bytes here", c.server.cfg.MaxLiteral)) // RFC 7888, 4
			return c.discardLiteral(size, nonSync)
		}
		if !nonSync {
			if err := c.writef("+ OK"); err != nil {
				return err
			}
			if err := c.flush(); err != nil {
				return err
			}
		}
		octets := make([]byte, size)
		if _, err := io.ReadFull(c.br, octets); err != nil {
			return unexpected(err)
		}
		if bytes.ContainsAny(octets, "\x00\r\n") {
			c.answer("BAD [CLIENTBUG] NUL or a line end in a literal") // nothing here has, or is looked up by, any of these
			return c.discardCommand(nil)
		}
		cmd = appendQuoted(cmd[:start+marker], octets)
	}
	if c.command.tag == "" || c.command.name == "" {
		c.answer("BAD [CLIENTBUG] Not a command")
		return nil
	}
	c.cmd = cmd
	return nil
}

// appendQuoted appends a string in quotes (RFC 9051, 9: quoted).
func appendQuoted(cmd, octets []byte) []byte {
	cmd = append(cmd, '"')
	for _, ch := range octets {
		if ch == '"' || ch == '\\' {
			cmd = append(cmd, '\\')
		}
		cmd = append(cmd, ch)
	}
	return append(cmd, '"')
}

// begin notes the command under way.
func (c *conn) begin(tag, name string) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.command = command{tag: tag, name: name}
}

// commandName returns a command's tag and name, "" when there are none. It is stricter than the library, which closes the
// connection without an answer when it finds none.
func commandName(line []byte) (tag, name string) {
	rest := strings.TrimRight(string(line), "\r\n")
	tag, rest, _ = strings.Cut(rest, " ")
	if tag == "" || len(tag) > 128 || strings.ContainsFunc(tag, notTagChar) {
		return "", ""
	}
	name, rest, _ = strings.Cut(rest, " ")
	name = strings.ToUpper(name)
	if name == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		if !isCommandWord(sub) {
			return tag, ""
		}
		return tag, "UID " + strings.ToUpper(sub)
	}
	if !isCommandWord(name) {
		return tag, ""
	}
	return tag, name
}

// notTagChar tells the characters that a tag must not have (RFC 9051, 9: tag).
func notTagChar(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]+`, r)
}

func isCommandWord(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '=' && r != '.'
	})
}

func bareCR(line []byte) bool {
	i := bytes.IndexByte(line, '\r')
	return i >= 0 && i != len(line)-2
}

// openQuote says whether a quoted string does not end in its line. The library would look for its end in the next command.
func openQuote(line []byte) bool {
	open := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			open = !open
		case line[i] == '\\' && open:
			i++
		}
	}
	return open
}

// literal finds the literal that a line announces (RFC 9051, 9: literal; RFC 7888): its size and where its marker begins.
func literal(line []byte) (size int64, marker int, nonSync, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 || line[len(line)-1] != '}' {
		return 0, 0, false, false
	}
	marker = bytes.LastIndexByte(line, '{')
	if marker < 0 {
		return 0, 0, false, false
	}
	digits := string(line[marker+1 : len(line)-1])
	digits, nonSync = strings.CutSuffix(digits, "+")
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil {
		return 0, 0, false, false
	}
	return int64(n), marker, nonSync, true
}

// looksLikeLiteral tells lines that end like a literal's announcement without being one. The library would read on behind the
// brace as if nothing were wrong.
func looksLikeLiteral(line []byte) bool {
	line = bytes.TrimRight(line, " \r\n") // the library takes a space for granted
	i := bytes.LastIndexByte(line, '{')
	return i >= 0 && line[len(line)-1] == '}' && bytes.IndexByte(line[i:], '"') < 0
}

// isMessageLiteral says whether the literal at the end of an APPEND is its message, not its mailbox's name, which comes first.
func isMessageLiteral(cmd []byte) bool {
	fields := bytes.Fields(cmd)
	return len(fields) > 3
}

var errTooLong = errors.New("imap: line is too long")

// readLine appends one line with its end to buf. When the line is longer than limit it stops early, with errTooLong.
func (c *conn) readLine(buf []byte, limit int) ([]byte, error) {
	start := len(buf)
	for {
		part, err := c.br.ReadSlice('\n')
		buf = append(buf, part...)
		if len(buf)-start > limit {
			return buf, errTooLong
		}
		if err != bufio.ErrBufferFull {
			return buf, err
		}
	}
}

// discardCommand reads the rest of a refused command away: the rest of its line, of which start is known already, and whatever
// its non-synchronizing literals drag along. Synchronizing ones are not coming, for nobody asked.
func (c *conn) discardCommand(start []byte) error {
	tail := bytes.Clone(start) // the end of the line, long enough for a literal's marker
	for {
		for !bytes.HasSuffix(tail, []byte("\n")) {
			c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.TransferTimeout))
			part, err := c.br.ReadSlice('\n')
			tail = append(tail, part...)
			tail = tail[max(0, len(tail)-64):]
			if err != nil && err != bufio.ErrBufferFull {
				return unexpected(err)
			}
		}
		size, _, nonSync, ok := literal(tail)
		if !ok || !nonSync {
			return nil
		}
		if err := c.discard(size); err != nil {
			return err
		}
		tail = tail[:0]
	}
}

// discardLiteral reads a refused literal away, and what is left of its command. A client that waits to be asked for it sends neither.
func (c *conn) discardLiteral(size int64, nonSync bool) error {
	if !nonSync {
		return nil
	}
	if err := c.discard(size); err != nil {
		return err
	}
	return c.discardCommand(nil)
}

// discard reads n bytes away.
func (c *conn) discard(n int64) error {
	for n > 0 {
		c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.TransferTimeout))
		skipped, err := c.br.Discard(int(min(n, readBuffer)))
		n -= int64(skipped)
		if err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// unexpected makes an end of the stream within a command an error: the library takes io.EOF in a literal for the literal's end.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
