package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// subscriptionsFile lists the subscribed mailboxes, in the Maildir++ root, as Dovecot does: a folder name a line, without the
// leading dot; "INBOX" for the INBOX.
const subscriptionsFile = "subscriptions"

// subscriptions returns the names of the subscribed mailboxes, whether these exist or not (RFC 9051, 6.3.7).
func (s *session) subscriptions() ([]string, error) {
	text, err := maildir.ReadBeside(s.home + "/" + subscriptionsFile)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, line := range maildir.Subscribed(text) {
		if line == inbox {
			names = append(names, inbox)
		} else if name, ok := nameOf("." + line); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Subscribe adds a mailbox to the subscriptions. It need not exist (RFC 9051, 6.3.7).
func (s *session) Subscribe(name string) error {
	return s.subscribe(name, func(lines []string, line string) []string {
		if slices.Contains(lines, line) {
			return nil
		}
		return append(lines, line)
	})
}

// Unsubscribe takes a mailbox out of the subscriptions; one that is not there is out already.
func (s *session) Unsubscribe(name string) error {
	return s.subscribe(name, func(lines []string, line string) []string {
		i := slices.Index(lines, line)
		if i < 0 {
			return nil
		}
		return append([]string{}, slices.Delete(lines, i, i+1)...)
	})
}

// subscribe rewrites the subscriptions with what change makes of them; nil leaves them as they are.
func (s *session) subscribe(name string, change func(lines []string, line string) []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = strings.TrimSuffix(name, string(delimiter))
	folder, err := folderOf(name)
	if err != nil {
		return err
	}
	if existing, err := s.resolve(name); err == nil {
		folder = existing
	}
	line := strings.TrimPrefix(folder, ".")
	if folder == "" {
		line = inbox
	}
	err = s.replaceFile(s.home+"/"+subscriptionsFile, func(old []byte) ([]byte, error) {
		lines := change(maildir.Subscribed(old), line)
		if lines == nil {
			return nil, errUnchanged
		}
		if len(lines) > 10_000 {
			return nil, no(imap.ResponseCodeLimit, "Too many subscriptions")
		}
		if len(lines) == 0 {
			return []byte{}, nil
		}
		return []byte(strings.Join(lines, "\n") + "\n"), nil
	})
	return s.failed("write subscriptions", err)
}
