package nodeapi

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"

	"mailraft/proxy"
	"mailraft/raftstore/tree"
)

func TestRequestsAreOfASizeThatAClientMaySend(t *testing.T) {
	w := newWorld(t)
	for size, want := range map[int]error{
		48 << 10: proxy.ErrAuthentication, // as much as an IMAP command has
		1 << 20:  proxy.ErrTemporary,
		8 << 20:  proxy.ErrTemporary,
	} {
		if _, err := w.client.Login(within(t), credentials("alice@example.org", strings.Repeat("x", size))); !errors.Is(err, want) {
			t.Errorf("a password of %d octets: %v, want %v", size, err, want)
		}
	}
}

func TestSessionsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice", 0)
	w.service.sessions = semaphore.NewWeighted(1)
	login := func() (proxy.Session, error) {
		return w.client.Login(within(t), credentials("alice@example.org", "secret"))
	}
	s, err := login()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(); !errors.Is(err, proxy.ErrTemporary) {
		t.Error("one too many:", err)
	}
	s.Close()
	if err := w.service.sessions.Acquire(within(t), 1); err != nil {
		t.Fatal("a session that ended is still counted:", err)
	}
	w.service.sessions.Release(1)
	if s, err = login(); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestWatchesAreCounted(t *testing.T) {
	f := newWorld(t).service.feed
	var watchers []*watcher
	watch := func(a tree.Account, want error) {
		t.Helper()
		w, err := f.watch(a)
		if !errors.Is(err, want) {
			t.Fatalf("%d watch, one more: %v, want %v", len(watchers), err, want)
		}
		if err == nil {
			watchers = append(watchers, w)
		}
	}
	for range maxWatchesOfOne {
		watch(1, nil)
	}
	watch(1, errFeedFull)
	for i := range maxWatches - maxWatchesOfOne {
		watch(tree.Account(2+i), nil)
	}
	watch(1<<20, errFeedFull)
	watchers[0].stop()
	watch(1, nil)
	watch(1<<20, errFeedFull)
	for _, w := range watchers[1:] {
		w.stop()
	}
	if f.count != 0 || len(f.watchers) != 0 {
		t.Errorf("%d are counted, of %d accounts", f.count, len(f.watchers))
	}
}

func TestManyChangesComeInParts(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	folders := []string{".a", ".b", ".c"}
	for _, name := range folders {
		w.mkdir(t, a, name)
	}
	number := tree.Account(a.Number)
	shard, err := w.store.Shard(number)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := w.service.feed.watch(number)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.stop()
	var changed []tree.FolderChange
	for i, name := range folders {
		entry, err := shard.View().Lookup(tree.RootIno(number), name)
		if err != nil {
			t.Fatal(err)
		}
		changed = append(changed, tree.FolderChange{Folder: entry.Ino, ModSeq: tree.ModSeq(i + 1)})
	}
	w.service.feed.applied(&tree.Event{Account: number, Folders: changed})
	seen := map[string]uint64{}
	for _, want := range []int{2, 1} {
		select {
		case <-watcher.ready:
		default:
			t.Fatal("it does not know that there is more")
		}
		changes := watcher.take(shard.View(), 2)
		if len(changes) != want {
			t.Errorf("%d changes at once: %v", len(changes), changes)
		}
		for _, c := range changes {
			seen[c.Folder] = c.ModSeq
		}
	}
	if len(seen) != 3 || seen[".a"] != 1 || seen[".b"] != 2 || seen[".c"] != 3 {
		t.Error(seen)
	}
	select {
	case <-watcher.ready:
		t.Error("ready, and there is nothing more")
	default:
	}
}
