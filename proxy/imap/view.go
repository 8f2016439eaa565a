package imap

import (
	"errors"
	"io/fs"
	"sort"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// view is the selected mailbox as its client knows it (RFC 9051, 2.3.1.2): message n of it is messages[n-1], ascending by UID.
// What others change is taken in by refresh, and told to the client by tell.
type view struct {
	folder   string // Maildir++ directory name, "" for INBOX
	dir      string // its absolute path
	readOnly bool   // by EXAMINE

	uidValidity uint32
	uidNext     uint32
	modSeq      uint64 // up to which changes are taken in
	messages    []message
	told        int  // messages that the client knows of (EXISTS)
	news        bool // there may be something that the client does not know

	keywords  keywords
	listed    map[flagSet][]imap.Flag // flags in IMAP's terms, as they come up
	found     imap.UIDSet             // by SEARCH RETURN (SAVE), RFC 9051, 6.4.4.1
	lastParts parsed                  // the message whose MIME structure was read last
}

type message struct {
	maildir.Message
	flags   flagSet
	size    int64 // with CRLF line ends, RFC822.SIZE; -1 when it is not known yet
	recent  bool  // nobody had looked at it when this session first saw it
	gone    bool  // expunged or moved away; the client does not know yet
	changed bool  // its flags are; the client does not know yet
}

func newMessage(m maildir.Message) message {
	size, ok := m.VirtualSize()
	if !ok {
		size = -1
	}
	return message{Message: m, flags: parseFlags(m.Flags()), size: size, recent: m.Name[0] == 'n'}
}

// errMailboxGone ends sessions whose selected mailbox was deleted or replaced: IMAP has no other way to tell.
var errMailboxGone = no(imap.ResponseCodeNonExistent, "Selected mailbox was deleted")

// refresh takes in what has changed in the folder. When that is gone, the connection ends behind the command under way.
func (s *session) refresh() error {
	v := s.view
	s.stale.Store(false)
	x, err := s.server.readIndex(v.dir, v.modSeq)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && x.UIDValidity != v.uidValidity:
		s.conn.endSoon("Selected mailbox was deleted")
		return errMailboxGone
	case err != nil:
		s.stale.Store(true)
		return err
	}
	v.apply(x)
	return nil
}

// apply takes in an index, of all or of what changed.
func (v *view) apply(x *maildir.Index) {
	v.modSeq, v.uidNext = x.HighestModSeq, x.UIDNext
	v.news = v.news || x.Since == 0 || len(x.Messages)+len(x.Vanished) > 0
	if x.Since == 0 { // the whole folder: what it does not list is gone
		i := 0
		for j := range v.messages {
			for i < len(x.Messages) && x.Messages[i].UID < v.messages[j].UID {
				i++
			}
			if i == len(x.Messages) || x.Messages[i].UID != v.messages[j].UID {
				v.messages[j].gone = true
			}
		}
	}
	last := uint32(0)
	if n := len(v.messages); n > 0 {
		last = v.messages[n-1].UID
	}
	for _, m := range x.Messages {
		if m.UID > last {
			v.messages = append(v.messages, newMessage(m))
			continue
		}
		if i, ok := v.byUID(m.UID); ok {
			v.messages[i].update(m)
		}
	}
	for _, gone := range x.Vanished {
		if i, ok := v.byUID(gone.UID); ok {
			v.messages[i].gone = true
		}
	}
}

// update takes in a message's new name.
func (m *message) update(now maildir.Message) {
	flags := parseFlags(now.Flags())
	if flags != m.flags {
		m.changed = true
	}
	m.Message, m.flags, m.gone = now, flags, false
}

// byUID returns the place of the message with that UID.
func (v *view) byUID(uid uint32) (int, bool) {
	i := sort.Search(len(v.messages), func(i int) bool { return v.messages[i].UID >= uid })
	return i, i < len(v.messages) && v.messages[i].UID == uid
}

// flagList returns a message's flags in IMAP's terms. The list is shared: not to be changed.
func (v *view) flagList(m *message) []imap.Flag {
	set := m.flags
	if !m.recent {
		if flags, ok := v.listed[set]; ok {
			return flags
		}
	}
	if set&keywordBits&^v.keywords.defined() != 0 { // a keyword made by somebody else
		if k, err := readKeywords(v.dir); err == nil {
			v.setKeywords(k)
		}
	}
	flags := v.keywords.list(set)
	if m.recent {
		return append(flags, flagRecent)
	}
	v.listed[set] = flags
	return flags
}

func (v *view) setKeywords(k keywords) {
	v.keywords = k
	v.listed = make(map[flagSet][]imap.Flag)
}

// resolve returns the places of the messages that a set names, ascending. Only what the client knows of can be named. Numbers
// without a message are passed over.
func (v *view) resolve(set imap.NumSet) []int {
	var places []int
	for _, span := range v.spans(set) {
		for i := span.from; i < span.to; i++ {
			places = append(places, i)
		}
	}
	return places
}

// span is a range of places, [from, to).
type span struct{ from, to int }

// spans are the places that resolve returns, ascending and apart from each other: as many as the set has ranges, at most.
func (v *view) spans(set imap.NumSet) []span {
	if imap.IsSearchRes(set) {
		set = v.found
	}
	var spans []span
	known := v.messages[:v.told]
	add := func(from, to int) {
		if n := len(spans); n > 0 {
			from = max(from, spans[n-1].to) // ranges ascend, but "*" may fall into one before
		}
		if from < to {
			spans = append(spans, span{from, to})
		}
	}
	n := uint32(len(known))
	if n == 0 {
		return nil
	}
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			start, stop := ends(r.Start, r.Stop, n)
			if start <= n {
				add(int(start)-1, int(min(stop, n)))
			}
		}
	case imap.UIDSet:
		for _, r := range set {
			start, stop := ends(uint32(r.Start), uint32(r.Stop), known[n-1].UID)
			from := sort.Search(len(known), func(i int) bool { return known[i].UID >= start })
			to := sort.Search(len(known), func(i int) bool { return known[i].UID > stop })
			add(from, to)
		}
	}
	return spans
}

// ends returns the ends of a range in which 0 stands for "*", the largest number there is; they may be in either order (RFC 9051,
// 9: seq-range).
func ends(start, stop, largest uint32) (uint32, uint32) {
	if start == 0 {
		start = largest
	}
	if stop == 0 {
		stop = largest
	}
	return min(start, stop), max(start, stop)
}
