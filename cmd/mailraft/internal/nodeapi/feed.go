package nodeapi

import (
	"errors"
	"sync"

	"mailraft/cmd/mailraft/internal/nodeapi/nodepb"
	"mailraft/raftstore"
	"mailraft/raftstore/tree"
)

// feed brings what the shards applied to those who watch accounts.
type feed struct {
	cancel func()

	mu       sync.Mutex // taken by the applying goroutines: never held for long
	watchers map[tree.Account]map[*watcher]struct{}
	count    int // of all accounts' watchers
	closed   bool
}

var (
	errFeedClosed = errors.New("the daemon is stopping")
	errFeedFull   = errors.New("too many are watching")
)

func newFeed(store *raftstore.Store) *feed {
	f := &feed{watchers: map[tree.Account]map[*watcher]struct{}{}}
	f.cancel = store.Subscribe(f.applied)
	return f
}

// watcher collects an account's changes until they are taken. Its fields are guarded by feed.mu.
type watcher struct {
	feed    *feed
	account tree.Account
	ready   chan struct{} // has one element while there is something to take
	ended   chan struct{} // closed with the feed
	folders map[tree.Ino]tree.ModSeq
	set     bool // the set of folders changed
}

func (f *feed) watch(a tree.Account) (*watcher, error) {
	w := &watcher{feed: f, account: a, ready: make(chan struct{}, 1), ended: make(chan struct{}), folders: map[tree.Ino]tree.ModSeq{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errFeedClosed
	}
	if !f.mayWatch(a) {
		return nil, errFeedFull
	}
	f.count++
	if f.watchers[a] == nil {
		f.watchers[a] = map[*watcher]struct{}{}
	}
	f.watchers[a][w] = struct{}{}
	return w, nil
}

func (w *watcher) stop() {
	f := w.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
	delete(f.watchers[w.account], w)
	if len(f.watchers[w.account]) == 0 {
		delete(f.watchers, w.account)
	}
}

// applied takes note of an event. It is called on the applying goroutine.
func (f *feed) applied(ev *tree.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ev.Replaced {
		f.replaced(ev.Account)
		return
	}
	watchers := f.watchers[ev.Account]
	if len(watchers) == 0 {
		return
	}
	set := false
	for _, c := range ev.Changes {
		set = set || c.Dir && (c.Kind == tree.EntryAdded || c.Kind == tree.EntryRemoved)
	}
	if !set && len(ev.Folders) == 0 {
		return
	}
	for w := range watchers {
		w.set = w.set || set
		for _, c := range ev.Folders {
			w.folders[c.Folder] = max(w.folders[c.Folder], c.ModSeq)
		}
		w.wake()
	}
}

// replaced has the account's watchers look again, or all if it is 0: whose shard it is that was replaced is not asked here. Called with
// mu.
func (f *feed) replaced(a tree.Account) {
	for n, watchers := range f.watchers {
		if a != 0 && n != a {
			continue
		}
		for w := range watchers {
			w.set = true
			w.wake()
		}
	}
}

// take returns what has been collected: limit changes at most, beside that of the set, and w is ready again if there are more. A
// folder that is gone has no name any more, and one that can't be read now has none either: that the set changed says enough.
func (w *watcher) take(v tree.Reader, limit int) []*nodepb.Change {
	folders, set := w.collected(limit)
	var changes []*nodepb.Change
	for ino, modSeq := range folders {
		name, err := v.Path(ino)
		if err != nil {
			set = true
			continue
		}
		changes = append(changes, &nodepb.Change{Folder: name, ModSeq: uint64(modSeq)})
	}
	if set {
		changes = append(changes, &nodepb.Change{Folders: true})
	}
	return changes
}

// collected takes at most limit folders out of what has been collected.
func (w *watcher) collected(limit int) (folders map[tree.Ino]tree.ModSeq, set bool) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	folders, set = w.folders, w.set
	w.folders, w.set = map[tree.Ino]tree.ModSeq{}, false
	for ino, modSeq := range folders {
		if len(folders) <= limit {
			break
		}
		w.folders[ino] = modSeq
		delete(folders, ino)
	}
	if len(w.folders) > 0 {
		w.wake()
	}
	return folders, set
}

// wake makes w ready. The caller holds feed.mu.
func (w *watcher) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (f *feed) close() {
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, watchers := range f.watchers {
		for w := range watchers {
			close(w.ended)
		}
	}
}
