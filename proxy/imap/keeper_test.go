package imap

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"mailraft/proxy/maildir"
)

// keeper does for plain directories what the mount does: it gives messages UIDs and MODSEQs, and keeps tombstones.
type keeper struct {
	mu      sync.Mutex
	folders map[string]*keptFolder
	next    uint32 // UIDVALIDITY
	fail    func(dir string, since uint64) error
}

// failWith makes read ask fail first.
func (k *keeper) failWith(fail func(dir string, since uint64) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = fail
}

type keptFolder struct {
	validity, uidNext uint32
	modSeq            uint64
	messages          []maildir.Message
	vanished          []maildir.Vanished
}

func newKeeper() *keeper { return &keeper{folders: make(map[string]*keptFolder), next: 1764000000} }

// read is a Server's readIndex.
func (k *keeper) read(dir string, since uint64) (*maildir.Index, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		if err := k.fail(dir, since); err != nil {
			return nil, err
		}
	}
	found, err := scan(dir)
	if err != nil {
		delete(k.folders, dir)
		return nil, err
	}
	f := k.folders[dir]
	if f == nil {
		f = &keptFolder{validity: k.next, uidNext: 1, modSeq: 1}
		k.folders[dir] = f
		k.next++
	}
	f.update(found)
	x := &maildir.Index{UIDValidity: f.validity, UIDNext: f.uidNext, HighestModSeq: f.modSeq, Count: len(f.messages), Since: since}
	for _, m := range f.messages {
		if m.ModSeq > since {
			x.Messages = append(x.Messages, m)
		}
	}
	if since > 0 {
		for _, v := range f.vanished {
			if v.ModSeq > since {
				x.Vanished = append(x.Vanished, v)
			}
		}
	}
	return x, nil
}

func (f *keptFolder) update(found map[string]maildir.Message) {
	kept := f.messages[:0:0]
	for _, m := range f.messages {
		now, ok := found[m.Key()]
		if !ok {
			f.modSeq++
			f.vanished = append(f.vanished, maildir.Vanished{UID: m.UID, ModSeq: f.modSeq})
			continue
		}
		if now.Name != m.Name {
			f.modSeq++
			m.Name, m.ModSeq = now.Name, f.modSeq
		}
		kept = append(kept, m)
		delete(found, m.Key())
	}
	fresh := make([]maildir.Message, 0, len(found))
	for _, m := range found {
		fresh = append(fresh, m)
	}
	slices.SortFunc(fresh, func(a, b maildir.Message) int {
		if d := order(a.Key()) - order(b.Key()); d != 0 {
			return d
		}
		return strings.Compare(a.Key(), b.Key())
	})
	for _, m := range fresh {
		f.modSeq++
		m.UID, m.ModSeq = f.uidNext, f.modSeq
		f.uidNext++
		kept = append(kept, m)
	}
	f.messages = kept
	slices.SortFunc(f.vanished, func(a, b maildir.Vanished) int { return int(a.UID) - int(b.UID) })
}

// order is the place of a name among those made by this process: the number behind its Q.
func order(key string) int {
	_, rest, _ := strings.Cut(key, "Q")
	digits, _, _ := strings.Cut(rest, "R")
	n, _ := strconv.Atoi(digits)
	return n
}

// scan lists a folder's messages by key.
func scan(dir string) (map[string]maildir.Message, error) {
	found := make(map[string]maildir.Message)
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(dir + "/" + sub)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				if os.IsNotExist(err) {
					continue
				}
				return nil, err
			}
			if info.Mode()&fs.ModeType != 0 {
				continue
			}
			m := maildir.Message{Name: sub + "/" + e.Name(), Size: info.Size(), Date: info.ModTime().Truncate(1e9)}
			found[m.Key()] = m
		}
	}
	return found, nil
}
