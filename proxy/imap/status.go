package imap

import (
	"errors"
	"io/fs"
	"math"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// unchanged is a MODSEQ that no folder has reached: the index of what changed after it is its header alone, whatever the folder
// holds.
const unchanged = math.MaxUint64

// Status tells of a mailbox without selecting it (RFC 9051, 6.3.11).
func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	folder, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	return s.status(name, folder, options)
}

// status counts a folder's messages. Called with mu held.
func (s *session) status(name, folder string, options *imap.StatusOptions) (*imap.StatusData, error) {
	since := uint64(unchanged)
	if options.NumRecent || options.NumUnseen || options.NumDeleted || options.Size || options.DeletedStorage {
		since = 0 // what only the messages tell
	}
	x, err := s.server.readIndex(maildir.FolderPath(s.home, folder), since)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, no(imap.ResponseCodeNonExistent, "No such mailbox")
	} else if err != nil {
		return nil, s.failed("read index", err)
	}
	messages := uint32(x.Count)
	var recent, unseen, trashed uint32
	var size, trashedSize int64
	for _, m := range x.Messages {
		flags := parseFlags(m.Flags())
		if m.Name[0] == 'n' {
			recent++
		}
		if flags&seen == 0 {
			unseen++
		}
		bytes, ok := m.VirtualSize()
		if !ok {
			// RFC 8438, 2: SIZE may be more than the sum of all RFC822.SIZE, not less. Each byte may be a bare LF, and reading every file
			// for them is too much.
			bytes = 2 * m.Size
		}
		size += bytes
		if flags&deleted != 0 {
			trashed++
			trashedSize += bytes
		}
	}
	limit := s.server.cfg.MaxAppend
	return &imap.StatusData{
		Mailbox:        name,
		NumMessages:    &messages,
		NumRecent:      &recent,
		UIDNext:        imap.UID(x.UIDNext),
		UIDValidity:    x.UIDValidity,
		NumUnseen:      &unseen,
		NumDeleted:     &trashed,
		Size:           &size,
		AppendLimit:    &limit,
		DeletedStorage: &trashedSize,
	}, nil
}
