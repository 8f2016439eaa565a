package imap

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// Create makes a mailbox. Levels above it need not exist: Maildir++ has none (RFC 9051, 6.3.4).
func (s *session) Create(name string, options *imap.CreateOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = strings.TrimSuffix(name, string(delimiter)) // "I will make mailboxes below it": nothing to prepare
	folder, err := folderOf(name)
	if err != nil {
		return err
	}
	for _, use := range options.SpecialUse {
		if use != specialUse(name) { // RFC 6154, 3: uses go by names here
			return no(codeUseAttr, "A mailbox has its use by its name here")
		}
	}
	if _, err := s.resolve(name); err == nil {
		return no(imap.ResponseCodeAlreadyExists, "Mailbox exists already")
	}
	return s.failed("create mailbox", maildir.CreateFolder(s.home, folder))
}

// Delete removes a mailbox with its messages, and not those below it (RFC 9051, 6.3.5).
func (s *session) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	folder, err := s.resolve(name)
	if err != nil {
		if all, listErr := s.mailboxes(); listErr == nil && all[name] != nil && all[name].children {
			return no(imap.ResponseCodeHasChildren, "There are mailboxes below this name")
		}
		return err
	}
	if folder == "" {
		return no(imap.ResponseCodeCannot, "INBOX stays")
	}
	if s.view != nil && s.view.folder == folder {
		return no(imap.ResponseCodeInUse, "Mailbox is selected")
	}
	return s.failed("delete mailbox", maildir.DeleteFolder(s.home, folder))
}

// Rename renames a mailbox and those below it. INBOX's messages are moved to the new one, and INBOX stays (RFC 9051, 6.3.6).
func (s *session) Rename(name, newName string, options *imap.RenameOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	newName = strings.TrimSuffix(newName, string(delimiter))
	to, err := folderOf(newName)
	if err != nil {
		return err
	}
	if _, err := s.resolve(newName); err == nil {
		return no(imap.ResponseCodeAlreadyExists, "Mailbox exists already")
	}
	folder, err := s.resolve(name)
	if err != nil {
		return err
	}
	if folder == "" {
		return s.renameInbox(to)
	}
	if strings.HasPrefix(to, folder+".") {
		return no(imap.ResponseCodeCannot, "A mailbox cannot go below itself")
	}
	if s.view != nil && (s.view.folder == folder || strings.HasPrefix(s.view.folder, folder+".")) {
		return no(imap.ResponseCodeInUse, "Mailbox is selected")
	}
	return s.failed("rename mailbox", maildir.RenameFolder(s.home, folder, to))
}

// renameInbox moves the messages of INBOX to a new mailbox.
func (s *session) renameInbox(to string) error {
	if err := maildir.CreateFolder(s.home, to); err != nil {
		return s.failed("create mailbox", err)
	}
	v, err := s.open("", false)
	if err != nil {
		return err
	}
	dest, err := s.open(to, false)
	if err != nil {
		return err
	}
	for i := range v.messages {
		m := &v.messages[i]
		err := s.transfer(v, m, dest, moveFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.failed("move message", err)
		}
	}
	return nil
}
