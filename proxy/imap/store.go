package imap

import (
	"errors"
	"os"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

var errReadOnly = no(imap.ResponseCodeNoPerm, "Mailbox is open for reading only") // by EXAMINE; the library does not look

// Store changes flags: each message is renamed within its folder (RFC 9051, 6.4.6).
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, options *imap.StoreOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	if v.readOnly {
		return errReadOnly
	}
	if s.stale.Load() || !s.watching.Load() { // what a message seems to have already, somebody may have taken away
		if err := s.refresh(); err != nil {
			return s.failed("read index", err)
		}
	}
	k := v.keywords
	bits, err := s.flagBits(v.dir, &k, change.Flags, change.Op != imap.StoreFlagsDel)
	if k != v.keywords {
		v.setKeywords(k)
	}
	if err != nil {
		return err
	}
	_, byUID := set.(imap.UIDSet)
	incomplete := false
	for _, i := range v.resolve(set) {
		if err := s.over(); err != nil {
			return err
		}
		old := v.messages[i].flags
		want := old
		switch change.Op {
		case imap.StoreFlagsSet:
			want = bits
		case imap.StoreFlagsAdd:
			want |= bits
		case imap.StoreFlagsDel:
			want &^= bits
		}
		if want != old || v.messages[i].gone {
			err := s.changeFlags(i, change.Op, bits)
			if errors.Is(err, errGone) {
				incomplete = true // RFC 2180, 4.2.1: the rest is done all the same
				continue
			} else if err != nil {
				return s.failed("store flags", err)
			}
		}
		if change.Silent {
			continue
		}
		m := &v.messages[i]
		m.changed = false
		r := w.CreateMessage(uint32(i + 1))
		if byUID {
			r.WriteUID(imap.UID(m.UID))
		}
		r.WriteFlags(v.flagList(m))
		if err := r.Close(); err != nil {
			return err
		}
	}
	if incomplete {
		return missing(set)
	}
	return nil
}

// changeFlags applies a change to whatever flags the message has by now: somebody else may have changed others meanwhile.
func (s *session) changeFlags(i int, op imap.StoreFlagsOp, bits flagSet) error {
	return s.rename(i, func(now flagSet) flagSet {
		switch op {
		case imap.StoreFlagsAdd:
			return now | bits
		case imap.StoreFlagsDel:
			return now &^ bits
		}
		return bits
	})
}

// markSeen notes that a message was read.
func (s *session) markSeen(i int) error { return s.changeFlags(i, imap.StoreFlagsAdd, seen) }

// rename renames a message's file to have the flags that change makes of those it has.
func (s *session) rename(i int, change func(now flagSet) flagSet) error {
	return s.onFile(i, func(m *message) error {
		set := change(m.flags)
		name := withFlags(m.Key(), m.Message.Flags(), set)
		if name != m.Name {
			if err := os.Rename(s.view.dir+"/"+m.Name, s.view.dir+"/"+name); err != nil {
				return err
			}
		}
		m.Name, m.flags = name, set
		return nil
	})
}
