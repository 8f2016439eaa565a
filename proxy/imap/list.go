package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailraft/proxy/maildir"
)

// mailbox is one name that LIST can tell of.
type mailbox struct {
	name            string
	folder          string
	exists          bool // else it is a level above others, or only subscribed
	subscribed      bool
	children        bool
	subscribedBelow bool
}

// mailboxes returns all names, by name: folders, the levels above them, and subscriptions.
func (s *session) mailboxes() (map[string]*mailbox, error) {
	folders, err := maildir.Folders(s.home)
	if err != nil {
		return nil, s.failed("list folders", err)
	}
	subscribed, err := s.subscriptions()
	if err != nil {
		return nil, s.failed("read subscriptions", err)
	}
	all := make(map[string]*mailbox)
	get := func(name string) *mailbox {
		m := all[name]
		if m == nil {
			m = &mailbox{name: name}
			all[name] = m
		}
		return m
	}
	for _, folder := range folders {
		if name, ok := nameOf(folder); ok {
			m := get(name)
			m.folder, m.exists = folder, true
			for parent := range parents(name) {
				get(parent).children = true
			}
		}
	}
	for _, name := range subscribed {
		get(name).subscribed = true
		for parent := range parents(name) {
			get(parent).subscribedBelow = true
		}
	}
	return all, nil
}

// parents yields the levels above a name, the nearest first.
func parents(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			i := strings.LastIndexByte(name, delimiter)
			if i < 0 || !yield(name[:i]) {
				return
			}
			name = name[:i]
		}
	}
}

// List does LIST with its extensions, and LSUB (RFC 9051, 6.3.9; RFC 3501, 6.3.9).
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(patterns) == 0 { // RFC 9051, 6.3.9: an empty pattern asks for the delimiter
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter})
	}
	full := make([]string, len(patterns))
	length := 0
	for i, pattern := range patterns {
		full[i] = ref + pattern
		if length += len(full[i]); length > maxPattern {
			return no(imap.ResponseCodeLimit, "Patterns are too long")
		}
	}
	all, err := s.mailboxes()
	if err != nil {
		return err
	}
	lsub := s.conn.currentCommand() == "LSUB"
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.over(); err != nil {
			return err
		}
		m := all[name]
		if !matchesAny(full, name) {
			continue
		}
		var data *imap.ListData
		if lsub {
			data = m.lsub(full)
		} else {
			data = m.list(options)
		}
		if data == nil {
			continue
		}
		if options.ReturnStatus != nil && m.exists {
			if data.Status, err = s.status(name, m.folder, options.ReturnStatus); err != nil {
				data.Status = nil // RFC 5819, 2: a mailbox that cannot be read has none
			}
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// list says what LIST tells of a mailbox, nil for nothing.
func (m *mailbox) list(options *imap.ListOptions) *imap.ListData {
	data := &imap.ListData{Mailbox: m.name, Delim: delimiter}
	use := specialUse(m.name)
	chosen := m.exists || m.children
	if options.SelectSubscribed {
		chosen = m.subscribed
	}
	if options.SelectSpecialUse {
		chosen = chosen && use != "" && m.exists
	}
	if options.SelectRecursiveMatch && m.subscribedBelow { // RFC 9051, 6.3.9.1
		chosen = true
		data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
	}
	if !chosen {
		return nil
	}
	if !m.exists {
		data.Attrs = append(data.Attrs, imap.MailboxAttrNonExistent)
		if m.children {
			data.Attrs = append(data.Attrs, imap.MailboxAttrNoSelect) // for IMAP4rev1's clients
		}
	}
	if m.subscribed && (options.ReturnSubscribed || options.SelectSubscribed) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if m.children {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
	}
	if use != "" && m.exists {
		data.Attrs = append(data.Attrs, use)
	}
	return data
}

// lsub says what LSUB tells of a mailbox: subscribed ones, and, as \Noselect, those above subscribed ones that the pattern's "%"
// cuts off (RFC 3501, 6.3.9).
func (m *mailbox) lsub(patterns []string) *imap.ListData {
	data := &imap.ListData{Mailbox: m.name, Delim: delimiter}
	switch {
	case m.subscribed && !m.exists, !m.subscribed:
		data.Attrs = []imap.MailboxAttr{imap.MailboxAttrNoSelect}
	}
	if m.subscribed || m.subscribedBelow && slices.ContainsFunc(patterns, func(p string) bool { return strings.HasSuffix(p, "%") }) {
		return data
	}
	return nil
}

// specialUse returns the use of a mailbox by its name (RFC 6154, 2), as mail programs call them.
func specialUse(name string) imap.MailboxAttr {
	switch strings.ToLower(name) {
	case "drafts":
		return imap.MailboxAttrDrafts
	case "sent":
		return imap.MailboxAttrSent
	case "junk":
		return imap.MailboxAttrJunk
	case "trash":
		return imap.MailboxAttrTrash
	case "archive":
		return imap.MailboxAttrArchive
	}
	return ""
}
