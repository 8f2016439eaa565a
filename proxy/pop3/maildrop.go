package pop3

import (
	"errors"
	"io"
	"os"
	"sort"

	"mailraft/proxy/maildir"
)

// maildrop is the snapshot of an INBOX that a session works on. Messages are in the order of their UIDs; number n of the
// protocol is messages[n-1].
type maildrop struct {
	dir         string
	uidValidity uint32
	messages    []message
}

// message is one message of a maildrop.
type message struct {
	uid     uint32
	name    string // where it was seen last: "cur/..." or "new/..."
	size    int64  // octets with CRLF line ends; -1: not known yet
	stored  int64  // st_size
	deleted bool   // by DELE
	gone    bool   // removed by somebody else
}

// errGone is the error of a message that somebody else removed or moved to another folder.
var errGone = errors.New("the message is gone")

// openMaildrop takes the snapshot.
func openMaildrop(home string) (*maildrop, error) {
	x, err := maildir.ReadIndex(home)
	if err != nil {
		return nil, err
	}
	d := &maildrop{dir: home, uidValidity: x.UIDValidity, messages: make([]message, len(x.Messages))}
	for i, m := range x.Messages {
		d.messages[i] = message{uid: m.UID, name: m.Name, size: -1, stored: m.Size}
		if size, ok := m.VirtualSize(); ok {
			d.messages[i].size = size
		}
	}
	return d, nil
}

// refresh looks up where the messages are now, and which of them are gone.
func (d *maildrop) refresh() error {
	x, err := maildir.ReadIndex(d.dir)
	if err != nil {
		return err
	}
	for i := range d.messages {
		m := &d.messages[i]
		j := sort.Search(len(x.Messages), func(j int) bool { return x.Messages[j].UID >= m.uid })
		if x.UIDValidity == d.uidValidity && j < len(x.Messages) && x.Messages[j].UID == m.uid {
			m.name = x.Messages[j].Name
		} else {
			m.gone = true
		}
	}
	return nil
}

// path returns where a message was seen last.
func (d *maildrop) path(m *message) string { return d.dir + "/" + m.name }

// chases is how often a message that is renamed all the time is looked up again.
const chases = 5

// open opens a message, wherever it went meanwhile; errGone if it went for good.
func (d *maildrop) open(m *message) (*os.File, error) {
	for range chases {
		if m.gone {
			return nil, errGone
		}
		f, err := maildir.Open(d.path(m))
		if !os.IsNotExist(err) {
			return f, err
		}
		if err := d.refresh(); err != nil {
			return nil, err
		}
	}
	return nil, errGone
}

// octets returns a message's size as it is sent. Where the file name does not tell, the file is read, once a session; one
// that cannot be read counts with its size on disk, so that STAT and LIST can tell of the others.
func (d *maildrop) octets(m *message) (int64, error) {
	if m.size >= 0 {
		return m.size, nil
	}
	m.size = m.stored
	f, err := d.open(m)
	if err != nil {
		return m.size, err
	}
	defer f.Close()
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	var counted octetCounter
	if _, err := io.CopyBuffer(&counted, maildir.CRLFReader(f), buf[:]); err != nil {
		return m.size, err
	}
	m.size = counted.octets
	if counted.octets > 0 && counted.last != '\n' {
		m.size += int64(len("\r\n")) // dotWriter ends the last line
	}
	return m.size, nil
}

// octetCounter counts what is written to it.
type octetCounter struct {
	octets int64
	last   byte // written last
}

func (c *octetCounter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		c.octets += int64(len(p))
		c.last = p[len(p)-1]
	}
	return len(p), nil
}
