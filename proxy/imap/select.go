package imap

import (
	"errors"
	"io/fs"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// Select opens a mailbox, for reading only when the command was EXAMINE (RFC 9051, 6.3.2 and 6.3.3).
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	folder, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	s.startWatching()
	s.folder.Store(&folder) // before the index is read: changes from now on count
	v, err := s.open(folder, options.ReadOnly)
	if err != nil {
		s.folder.Store(nil)
		return nil, err
	}
	s.view = v

	data := &imap.SelectData{
		Flags:       v.mailboxFlags(),
		NumMessages: uint32(v.told),
		NumRecent:   v.recent(),
		UIDNext:     imap.UID(v.uidNext),
		UIDValidity: v.uidValidity,
		List:        &imap.ListData{Mailbox: name, Delim: delimiter}, // RFC 9051, 6.3.2
	}
	for i := range v.messages {
		if v.messages[i].flags&seen == 0 {
			data.FirstUnseenSeqNum = uint32(i + 1)
			break
		}
	}
	if !v.readOnly {
		data.PermanentFlags = data.Flags
		if !v.keywords.full() {
			data.PermanentFlags = append(data.PermanentFlags[:len(data.Flags):len(data.Flags)], imap.FlagWildcard)
		}
	}
	return data, nil
}

// open reads a folder into a new view.
func (s *session) open(folder string, readOnly bool) (*view, error) {
	v := &view{folder: folder, dir: maildir.FolderPath(s.home, folder), readOnly: readOnly}
	x, err := s.server.readIndex(v.dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, no(imap.ResponseCodeNonExistent, "No such mailbox")
	} else if err != nil {
		return nil, s.failed("read index", err)
	}
	k, err := readKeywords(v.dir)
	if err != nil {
		return nil, s.failed("read keywords", err)
	}
	v.setKeywords(k)
	v.uidValidity = x.UIDValidity
	v.messages = make([]message, 0, len(x.Messages)+16)
	v.apply(x)
	v.told = len(v.messages)
	return v, nil
}

// mailboxFlags are the flags that messages of the mailbox can have.
func (v *view) mailboxFlags() []imap.Flag {
	return v.keywords.list(^flagSet(0))
}

// Unselect closes the mailbox.
func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = nil
	s.folder.Store(nil)
	return nil
}
