package smtp

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"mailraft/proxy/maildir"
)

const (
	// headroom is the room before the first piece of a message for its trace lines, so that both go to the mount in one write.
	headroom = 4 << 10
	// chunkSize is how much of a message is gathered before it is written, trace lines not counted.
	chunkSize = 124 << 10
	// parallel is how many copies of a message are sealed and linked at once: links that wait together share a commit.
	parallel = 16
)

type chunk [headroom + chunkSize]byte

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// copyFor is one mailbox's copy of a message.
type copyFor struct {
	home, folder string
	enclosed     bool // proxy.Mailbox's
	trace        []byte
	delivery     *maildir.Delivery // nil until the first write
	err          error             // why it cannot be delivered
}

// transfer is a message on its way from the client to the mailboxes. No file is made before a chunk is full or the message at
// its end, so a message that does not come never touches the mount.
type transfer struct {
	copies     []*copyFor
	together   bool         // SMTP: no copy is committed unless all are written
	recipients []*recipient // LMTP: each has its own reply, about its copies
	limit      int64        // bytes
	// checkHeader, if it is not nil, gets the message's header, empty line excluded, before anything of the message is written. It returns
	// lines to put in front of the message, or why nobody can have it.
	checkHeader func(header []byte) (missing []byte, refusal *reply)

	size    int64 // bytes of the message so far, without trace lines
	afterCR bool  // the last byte was a carriage return
	hops    hopCounter
	refusal *reply // why nobody can have it

	chunk *chunk
	n     int  // bytes of the chunk in use, behind the headroom
	begun bool // the first chunk was written
}

// newTransfer starts a message. together says that there is one reply for all copies.
func newTransfer(copies []*copyFor, together bool, limit int64) *transfer {
	return &transfer{copies: copies, together: together, limit: limit, chunk: chunkPool.Get().(*chunk)}
}

// write takes the next bytes of the message; a line feed that no carriage return precedes becomes CRLF. What goes wrong is
// remembered: the rest is swallowed, and finish tells.
func (t *transfer) write(p []byte) {
	for len(p) > 0 && !t.hopeless() {
		run := t.untilBareLF(p)
		t.store(p[:run])
		p = p[run:]
		if len(p) > 0 { // p[0] is a bare LF
			t.store([]byte("\r\n"))
			p = p[1:]
		}
	}
}

// untilBareLF returns how many bytes of p come before its first bare line feed.
func (t *transfer) untilBareLF(p []byte) int {
	from := 0
	for {
		lf := bytes.IndexByte(p[from:], '\n')
		if lf < 0 {
			t.afterCR = p[len(p)-1] == '\r'
			return len(p)
		}
		at := from + lf
		if at > 0 && p[at-1] != '\r' || at == 0 && !t.afterCR {
			t.afterCR = false
			return at
		}
		from = at + 1
		t.afterCR = false
		if from == len(p) {
			return from
		}
	}
}

// store adds bytes as they are to be stored.
func (t *transfer) store(p []byte) {
	if t.hopeless() {
		return
	}
	t.size += int64(len(p))
	if t.size > t.limit {
		t.refuse(replyTooLarge)
		return
	}
	if !t.hops.body {
		if t.hops.write(p); t.hops.hops > maxHops {
			t.refuse(replyLoop)
			return
		}
	}
	for len(p) > 0 {
		if t.n == chunkSize {
			if t.writeChunk(); t.hopeless() {
				return
			}
		}
		copied := copy(t.chunk[headroom+t.n:], p)
		t.n += copied
		p = p[copied:]
	}
}

// refuse gives the message up for all.
func (t *transfer) refuse(r reply) {
	t.refusal = &r
	t.abort()
}

// hopeless says whether nobody will get the message.
func (t *transfer) hopeless() bool { return t.refusal != nil }

// writeChunk writes what is gathered into each copy.
func (t *transfer) writeChunk() {
	body := t.chunk[headroom : headroom+t.n]
	if !t.begun && t.checkHeader != nil {
		if t.examine(body); t.hopeless() {
			return
		}
	}
	for _, c := range t.copies {
		if c.err != nil {
			continue
		}
		if t.begun {
			_, c.err = c.delivery.Write(body)
		} else {
			c.err = t.begin(c, body)
		}
		if c.err != nil && t.together {
			t.refuse(storeReply(c.err))
			return
		}
	}
	t.begun = true
	t.n = 0
}

// examine has the header checked, which must be all in the first chunk.
func (t *transfer) examine(first []byte) {
	header := first
	if bytes.HasPrefix(first, []byte("\r\n")) {
		header = nil
	} else if end := bytes.Index(first, []byte("\r\n\r\n")); end >= 0 {
		header = first[:end+2]
	} else if len(first) == chunkSize {
		t.refuse(replyLargeHeader)
		return
	}
	missing, refusal := t.checkHeader(header)
	if refusal != nil {
		t.refuse(*refusal)
		return
	}
	for _, c := range t.copies {
		c.trace = append(c.trace, missing...)
	}
}

// begin makes a copy's file and writes its trace lines and the first chunk, in one write where the headroom suffices.
func (t *transfer) begin(c *copyFor, body []byte) error {
	d, err := maildir.NewDelivery(c.home, c.folder)
	if c.folder != "" && errors.Is(err, os.ErrNotExist) { // the folder was removed since RCPT
		d, err = maildir.NewDelivery(c.home, "")
	}
	if err != nil {
		return err
	}
	c.delivery = d
	first := body
	if len(c.trace) <= headroom {
		start := headroom - len(c.trace)
		copy(t.chunk[start:], c.trace)
		first = t.chunk[start : headroom+len(body)]
	} else if _, err := d.Write(c.trace); err != nil {
		return err
	}
	_, err = d.Write(first)
	return err
}

// finish commits the message and releases the transfer. It returns why nobody got it, or nil: then each copy's err tells.
//
// All copies are written and closed before the first is linked; see the package comment for what happens if one fails.
func (t *transfer) finish() *reply {
	defer t.abort()
	if t.hopeless() {
		return t.refusal
	}
	if t.n > 0 || !t.begun {
		t.writeChunk()
	}
	if t.hopeless() {
		return t.refusal
	}
	t.each(func(c *copyFor) error { return c.delivery.Close() })
	if t.together {
		if err := failure(t.copies); err != nil {
			t.refuse(storeReply(err))
			return t.refusal
		}
	}
	t.holdBack()
	t.each(func(c *copyFor) error {
		_, err := c.delivery.Commit(maildir.Options{Recent: true, Enclosed: c.enclosed})
		return err
	})
	return nil
}

// holdBack keeps back the copies of LMTP's recipients behind an alias of which another copy has failed, unless they are another
// recipient's too: the alias has one reply, so the client sends to it again, and who had a copy would get a second one.
func (t *transfer) holdBack() {
	wanted := map[*copyFor]bool{}
	for _, r := range t.recipients {
		if failure(r.copies) == nil {
			for _, c := range r.copies {
				wanted[c] = true
			}
		}
	}
	for _, r := range t.recipients {
		err := failure(r.copies)
		for _, c := range r.copies {
			if c.err == nil && !wanted[c] {
				c.err = err
			}
		}
	}
}

// failure is why the first of the copies that has failed did so; nil when none has.
func failure(copies []*copyFor) error {
	for _, c := range copies {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// each does something with all copies that have not failed, several at once.
func (t *transfer) each(do func(*copyFor) error) {
	if len(t.copies) == 1 {
		if c := t.copies[0]; c.err == nil {
			c.err = do(c)
		}
		return
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, c := range t.copies {
		if c.err == nil {
			group.Go(func() error {
				c.err = do(c)
				return nil
			})
		}
	}
	group.Wait()
}

// abort removes what is not committed and gives the memory back. It may be called again, and after finish.
func (t *transfer) abort() {
	for _, c := range t.copies {
		if c.delivery != nil {
			c.delivery.Abort()
		}
	}
	if t.chunk != nil {
		chunkPool.Put(t.chunk)
		t.chunk = nil
	}
}
