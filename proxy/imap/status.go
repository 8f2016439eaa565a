package imap

import (
	"errors"
	"io/fs"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// counts is what a session remembers of a folder that it looked at, so that the next look need only read what changed.
type counts struct {
	uidValidity, uidNext uint32
	modSeq               uint64
}

// note remembers a folder's state.
func (s *session) note(folder string, x *maildir.Index) {
	s.counts[folder] = &counts{uidValidity: x.UIDValidity, uidNext: x.UIDNext, modSeq: x.HighestModSeq}
}

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
	dir := maildir.FolderPath(s.home, folder)
	x, err := s.server.readIndex(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, no(imap.ResponseCodeNonExistent, "No such mailbox")
	} else if err != nil {
		return nil, s.failed("read index", err)
	}
	s.note(folder, x)

	var messages, recent, unseen, trashed uint32
	var size, trashedSize int64
	for _, m := range x.Messages {
		messages++
		flags := parseFlags(m.Flags())
		if m.Name[0] == 'n' {
			recent++
		}
		if flags&seen == 0 {
			unseen++
		}
		bytes, ok := m.VirtualSize()
		if !ok {
			bytes = m.Size // RFC 8438 lets SIZE be no less than the sum; reading every file for it is too much
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
