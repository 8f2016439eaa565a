package imap

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailraft/proxy/maildir"
)

// Copy links messages into another folder (RFC 9051, 6.4.7): all of them, or none.
func (s *session) Copy(set imap.NumSet, name string) (*imap.CopyData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.newTransfers(name)
	if err != nil {
		return nil, err
	}
	for _, i := range s.view.resolve(set) {
		err := s.over()
		if err == nil {
			err = t.add(i, linkFile)
		}
		if errors.Is(err, errGone) {
			if err = missing(set); err == nil {
				continue
			}
		}
		if err != nil {
			t.undo()
			return nil, s.failed("copy message", err)
		}
	}
	return t.result(), nil
}

// Move renames messages into another folder (RFC 6851). Each one is moved or not, none is ever in both or in neither.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	if v.readOnly {
		return errReadOnly
	}
	t, err := s.newTransfers(name)
	if err != nil {
		return err
	}
	if t.dest.folder == v.folder {
		return no(imap.ResponseCodeCannot, "Messages are in that mailbox already")
	}
	var failure error
	incomplete := false
	for _, i := range v.resolve(set) {
		if failure = s.over(); failure != nil {
			break
		}
		err := t.add(i, moveFile)
		if errors.Is(err, errGone) {
			incomplete = true
		} else if err != nil {
			failure = s.failed("move message", err)
			break
		}
	}
	if data := t.result(); data != nil { // RFC 6851, 4.3: untagged, before the EXPUNGEs
		if err := w.WriteCopyData(data); err != nil {
			return err
		}
	}
	for _, i := range t.sources {
		v.messages[i].gone = true
	}
	if err := v.expunge(w.WriteExpunge); err != nil {
		return err
	}
	if failure == nil && incomplete {
		failure = missing(set)
	}
	return failure
}

// transfers are the messages that one command puts into another folder.
type transfers struct {
	session *session
	dest    *view // of it only the folder and the keywords count
	since   uint64
	sources []int    // places in the view
	names   []string // in the other folder
}

// newTransfers looks at where messages are to go.
func (s *session) newTransfers(name string) (*transfers, error) {
	folder, err := s.target(name)
	if err != nil {
		return nil, err
	}
	t := &transfers{session: s, dest: &view{folder: folder, dir: maildir.FolderPath(s.home, folder)}}
	k, err := readKeywords(t.dest.dir)
	if err != nil {
		return nil, s.failed("read keywords", err)
	}
	t.dest.setKeywords(k)
	if t.since, err = s.modSeqOf(folder); err != nil {
		return nil, s.failed("read index", err)
	}
	return t, nil
}

// modSeqOf returns a MODSEQ after which the messages that are put into a folder from now on are found in its index.
func (s *session) modSeqOf(folder string) (uint64, error) {
	x, err := s.server.readIndex(maildir.FolderPath(s.home, folder), unchanged)
	if err != nil {
		return 0, err
	}
	return x.HighestModSeq, nil
}

// add puts one more message there.
func (t *transfers) add(i int, put func(from, to string) error) error {
	var name string
	err := t.session.onFile(i, func(m *message) (err error) {
		name, err = t.session.place(t.session.view, m, t.dest, put)
		return err
	})
	if err == nil {
		t.sources = append(t.sources, i)
		t.names = append(t.names, name)
	}
	return err
}

// undo removes what was put there (RFC 9051, 6.4.7).
func (t *transfers) undo() {
	for _, name := range t.names {
		if err := os.Remove(t.dest.dir + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.session.failed("undo copy", err)
		}
	}
}

// result finds the UIDs that the messages got (RFC 4315, 3). It is nil when nothing was transferred, or when they cannot be told: what
// was done stays done, and COPYUID is optional.
func (t *transfers) result() *imap.CopyData {
	if len(t.names) == 0 {
		return nil
	}
	uids, x, err := t.session.uidsOf(t.dest.folder, t.since)
	if err != nil {
		t.session.failed("read index", err)
		return nil
	}
	data := &imap.CopyData{UIDValidity: x.UIDValidity}
	last := uint32(0)
	for n, i := range t.sources {
		uid, ok := uids[key(t.names[n])]
		if !ok || uid < last {
			return nil // moved on by somebody else already: it must not lie
		}
		last = uid
		data.SourceUIDs.AddNum(imap.UID(t.session.view.messages[i].UID))
		data.DestUIDs.AddNum(imap.UID(uid))
	}
	return data
}

// uidsOf returns the UIDs of the messages that came into a folder after a MODSEQ, by key.
func (s *session) uidsOf(folder string, since uint64) (map[string]uint32, *maildir.Index, error) {
	x, err := s.server.readIndex(maildir.FolderPath(s.home, folder), since)
	if err != nil {
		return nil, nil, err
	}
	uids := make(map[string]uint32, len(x.Messages))
	for _, m := range x.Messages {
		uids[m.Key()] = m.UID
	}
	return uids, x, nil
}

// transfer puts a message of one folder into another.
func (s *session) transfer(v *view, m *message, dest *view, put func(from, to string) error) error {
	_, err := s.place(v, m, dest, put)
	return err
}

// place puts a message's file into another folder's cur/ under a name of its own, and returns that. Flags stay; keywords get the
// letters that they have there. When one of them finds none, those that are new there are left behind (RFC 9051, 6.4.7: SHOULD be
// preserved).
func (s *session) place(v *view, m *message, dest *view, put func(from, to string) error) (string, error) {
	set := m.flags &^ keywordBits
	if words := v.keywords.list(m.flags & keywordBits); len(words) > 0 {
		bits, err := s.flagBits(dest.dir, &dest.keywords, words, true)
		if err != nil {
			bits, _ = s.flagBits(dest.dir, &dest.keywords, words, false)
		}
		set |= bits
	}
	name := withFlags(copyName(m), "", set)
	return name, put(v.dir+"/"+m.Name, dest.dir+"/"+name)
}

func linkFile(from, to string) error { return os.Link(from, to) }
func moveFile(from, to string) error { return os.Rename(from, to) }

func key(name string) string { return maildir.Message{Name: name}.Key() }

var copies atomic.Uint64

// copyName makes a unique file name for a copy (maildir(5)), with the sizes that the original's name tells.
func copyName(m *message) string {
	now := time.Now()
	var random [8]byte
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	name := fmt.Sprintf("%d.M%dP%dQ%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), copies.Add(1),
		hex.EncodeToString(random[:]), "imap")
	for _, field := range strings.Split(m.Key(), ",")[1:] {
		if strings.HasPrefix(field, "S=") || strings.HasPrefix(field, "W=") {
			name += "," + field
		}
	}
	return name
}
