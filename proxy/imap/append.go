package imap

import (
	"io"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// Append delivers a message into a folder, as it comes in (RFC 9051, 6.3.12). Line ends become CRLF; all else stays.
func (s *session) Append(name string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	folder, err := s.target(name)
	if err != nil {
		return nil, err
	}
	if r.Size() == 0 {
		return nil, no(imap.ResponseCodeCannot, "An empty message is none")
	}
	dir := maildir.FolderPath(s.home, folder)
	k, err := readKeywords(dir)
	if err != nil {
		return nil, s.failed("read keywords", err)
	}
	bits, err := s.flagBits(dir, &k, options.Flags, true)
	if err != nil {
		return nil, err
	}
	if s.view != nil && s.view.folder == folder && k != s.view.keywords {
		s.view.setKeywords(k)
	}
	since, err := s.modSeqOf(folder)
	if err != nil {
		return nil, s.failed("read index", err)
	}

	d, err := maildir.NewDelivery(s.home, folder)
	if err != nil {
		return nil, s.failed("append", err)
	}
	defer d.Abort()
	literal := &countingReader{r: r}
	_, err = d.ReadFrom(maildir.CRLFReader(literal))
	if literal.err != nil || err == nil && literal.n != r.Size() {
		return nil, no(imap.ResponseCodeClientBug, "Message was cut off")
	} else if err != nil {
		return nil, s.failed("append", err)
	}
	path, err := d.Commit(maildir.Options{Flags: bits.letters(), Date: options.Time, Recent: true, Enclosed: s.enclosed})
	if err != nil {
		return nil, s.failed("append", err)
	}
	if s.view != nil && s.view.folder == folder {
		s.stale.Store(true) // RFC 9051, 6.3.12: tell of it in this answer
	}

	uids, x, err := s.uidsOf(folder, since)
	if err != nil {
		s.failed("read index", err)
		return nil, nil // it is stored; APPENDUID is optional
	}
	uid, ok := uids[key(path[len(dir)+1:])]
	if !ok {
		return nil, nil
	}
	return &imap.AppendData{UIDValidity: x.UIDValidity, UID: imap.UID(uid)}, nil
}

// countingReader notes how much came from the client, and what broke it off.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != io.EOF {
		c.err = err
	}
	return n, err
}
