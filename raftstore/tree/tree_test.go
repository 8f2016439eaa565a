package tree

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// fataler is what a test and a property have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// replica is a tree over a store in memory.
type replica struct {
	t      fataler
	tree   *Tree
	db     *pebble.DB
	store  *machine.Store
	batch  *pebble.Batch
	events []*Event
}

func newReplica(t fataler, fs vfs.FS, tombs int) *replica {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{
		FS: fs, DisableWAL: true, MemTableSize: 8 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{},
	})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	r := &replica{t: t, db: db, store: machine.NewStore(db)}
	r.tree = New(r.store)
	r.tree.tombs = uint64(tombs)
	r.tree.Subscribe(func(ev *Event) { r.events = append(r.events, ev) })
	return r
}

// apply applies one command to the open batch. One that fails must not add to it.
func (r *replica) apply(index uint64, cmd *raftpb.Command) Result {
	r.t.Helper()
	if r.batch == nil {
		r.batch = r.db.NewIndexedBatch()
	}
	count, size := r.batch.Count(), r.batch.Len()
	res, err := r.tree.Apply(r.batch, index, cmd)
	if err != nil {
		r.t.Fatalf("apply %v: %v", cmd, err)
	}
	if res.Errno != 0 && (r.batch.Count() != count || r.batch.Len() != size || res.Value != 0) {
		r.t.Fatalf("%v failed (%v) and wrote, or answered %d", cmd, res.Errno, res.Value)
	}
	if res.Index != index {
		r.t.Fatalf("result has index %d, want %d", res.Index, index)
	}
	return res
}

func (r *replica) commit() {
	r.t.Helper()
	if r.batch == nil {
		return
	}
	if err := r.batch.Commit(pebble.NoSync); err != nil {
		r.t.Fatalf("commit: %v", err)
	}
	if err := r.batch.Close(); err != nil {
		r.t.Fatalf("close batch: %v", err)
	}
	r.batch = nil
	r.tree.Committed()
}

func (r *replica) close() {
	if r.batch != nil {
		r.batch.Close()
	}
	if err := r.store.Close(); err != nil {
		r.t.Fatalf("close: %v", err)
	}
}

// dump gives all keys and values.
func (r *replica) dump() [][2]string {
	r.t.Helper()
	it, err := r.db.NewIter(nil)
	if err != nil {
		r.t.Fatalf("iterate: %v", err)
	}
	var all [][2]string
	for ok := it.First(); ok; ok = it.Next() {
		all = append(all, [2]string{string(it.Key()), string(it.Value())})
	}
	if err := it.Close(); err != nil {
		r.t.Fatalf("iterate: %v", err)
	}
	return all
}

// watched is what a follower of events knows.
type watched struct {
	names   map[LinkName]Ino
	folders map[Ino]ModSeq
}

func (w *watched) see(ev *Event) error {
	for _, c := range ev.Changes {
		n := LinkName{c.Parent, c.Name}
		switch c.Kind {
		case AccountAdded:
			for i, box := range []string{"cur", "new", "tmp"} {
				w.names[LinkName{RootIno(ev.Account), box}] = MakeIno(ev.Account, uint64(2+i))
			}
		case AccountRemoved:
			maps.DeleteFunc(w.names, func(n LinkName, _ Ino) bool { return n.Parent.Account() == ev.Account })
			maps.DeleteFunc(w.folders, func(f Ino, _ ModSeq) bool { return f.Account() == ev.Account })
		case EntryAdded:
			if _, there := w.names[n]; there {
				return fmt.Errorf("%v added twice", n)
			}
			w.names[n] = c.Ino
		case EntryRemoved:
			if w.names[n] != c.Ino {
				return fmt.Errorf("%v removed, was %d, said to be %d", n, w.names[n], c.Ino)
			}
			delete(w.names, n)
		}
	}
	for _, f := range ev.Folders {
		w.folders[f.Folder] = f.ModSeq
	}
	return nil
}

// TestModel applies random commands to the tree and the model, several in a batch as package group does, and compares every
// answer, and the whole state now and then. In the end a second replica gets the same commands in other batches: its store must
// be the same to the octet.
func TestModel(t *testing.T) {
	for round := range 8 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, compareWithModel)
		})
	}
}

func compareWithModel(t *rapid.T) {
	// So few tombstones are kept that they are forgotten often.
	m := &model{tombs: rapid.SampledFrom([]int{1, 3, 33}).Draw(t, "tombstones"), accounts: map[Account]*modelAccount{}}
	draw := newCommands(t, m)
	r := newReplica(t, vfs.NewMem(), m.tombs)
	defer r.close()
	w := &watched{map[LinkName]Ino{}, map[Ino]ModSeq{}}
	var log []logged
	index := uint64(1)

	batch := func(t *rapid.T) {
		draw.t = t
		for range 1 + draw.below(16, "batch") {
			cmd := draw.next()
			octets, err := proto.Marshal(cmd)
			if err != nil {
				t.Fatalf("marshal: %v", err)
			}
			index += 1 + uint64(draw.below(2, "index"))
			log = append(log, logged{index, octets})
			v, errno := m.apply(index, cmd)
			if got := r.apply(index, cmd); got.Errno != errno || got.Value != v {
				t.Fatalf("command %d: %v\nanswers %v %d, the model %v %d", len(log), cmd, got.Errno, got.Value, errno, v)
			}
			proto.Reset(cmd) // nothing may hold on to it
		}
		r.commit()
		for _, ev := range r.events {
			if err := w.see(ev); err != nil {
				t.Fatalf("event %d: %v", ev.Index, err)
			}
		}
		r.events = nil
	}
	compare := func(t *rapid.T) {
		compareState(t, r.tree.View(), m, w, ModSeq(rapid.Uint64Range(0, index+1).Draw(t, "since")))
	}
	t.Repeat(map[string]func(*rapid.T){
		"apply a batch": batch, "apply one more": batch, "and one more": batch, "compare": compare,
	})
	compare(t)
	compareReplicas(t, r, m.tombs, log)
}

// logged is a command as the Raft log has it.
type logged struct {
	index  uint64
	octets []byte
}

// compareReplicas replays the log and compares the stores.
func compareReplicas(t *rapid.T, first *replica, tombs int, log []logged) {
	r := newReplica(t, vfs.NewMem(), tombs)
	defer r.close()
	split := rapid.Uint64().Draw(t, "split")
	for i, entry := range log {
		var cmd raftpb.Command
		if err := proto.Unmarshal(entry.octets, &cmd); err != nil {
			t.Fatalf("unmarshal: %v", err)
		}
		r.apply(entry.index, &cmd)
		if split>>(i%64)&1 == 1 {
			r.commit()
		}
	}
	r.commit()
	if a, b := first.dump(), r.dump(); !slices.Equal(a, b) {
		t.Fatalf("replicas differ:\n%s", gocmp.Diff(a, b))
	}
}

// compareState compares all that can be seen.
func compareState(t *rapid.T, v *View, m *model, w *watched, since ModSeq) {
	t.Helper()
	var numbers []Account
	if err := v.Accounts(func(a Account) bool { numbers = append(numbers, a); return true }); err != nil {
		t.Fatalf("accounts: %v", err)
	}
	if want := slices.Sorted(maps.Keys(m.accounts)); !slices.Equal(numbers, want) {
		t.Fatalf("accounts %v, want %v", numbers, want)
	}
	names := map[LinkName]Ino{}
	for _, a := range m.accounts {
		compareAccount(t, v, a, since)
		for _, dir := range a.inodes {
			for name, e := range dir.entries {
				names[LinkName{dir.ino, name}] = e.in.ino
			}
			if got, ok := w.folders[dir.ino]; ok && dir.isDir() && got != dir.highest {
				t.Fatalf("events say that folder %d is at %d, it is at %d", dir.ino, got, dir.highest)
			}
		}
	}
	same(t, "what events tell of names", w.names, names)
	compareOrphans(t, v, m)
	err := Check(v, func(p Problem) { t.Fatalf("check: %v", p) })
	if err != nil {
		t.Fatalf("check: %v", err)
	}
}

func compareAccount(t *rapid.T, v *View, a *modelAccount, since ModSeq) {
	t.Helper()
	bytes, files := a.usage()
	want := &AccountRecord{a.number, a.next, bytes, files, a.quotaBytes, a.quotaFiles, a.validity, 0, 0, 0, a.fence}
	got, err := v.Account(a.number)
	if err != nil {
		t.Fatalf("account: %v", err)
	}
	same(t, "account", got, want)
	names := map[Ino][]LinkName{}
	for _, dir := range a.inodes {
		for name, e := range dir.entries {
			names[e.in.ino] = append(names[e.in.ino], LinkName{dir.ino, name})
		}
	}
	for _, in := range a.inodes {
		compareInode(t, v, in, names[in.ino])
		if in.isDir() {
			compareDir(t, v, in, names)
		}
		if in.role == RoleRoot || in.role == RoleFolder {
			compareFolder(t, v, in, 0)
			compareFolder(t, v, in, since)
		}
	}
}

func byName(a, b LinkName) int {
	return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Name, b.Name))
}

// stat is what stat(2) should say of the inode.
func (in *modelInode) stat(names int) Stat {
	s := Stat{
		Mode: in.mode, UID: in.uid, GID: in.gid, Nlink: uint32(names), Size: in.size, SealedSize: uint64(len(in.sealed)),
		Mtime: in.mtime, Ctime: in.ctime, Atime: in.atime,
	}
	if in.isDir() {
		s.Nlink, s.Size = 2+in.subdirs(), uint64(len(in.entries))*64
	}
	return s
}

func (in *modelInode) subdirs() uint32 {
	n := uint32(0)
	for _, e := range in.entries {
		if e.in.isDir() {
			n++
		}
	}
	return n
}

func compareInode(t *rapid.T, v *View, in *modelInode, names []LinkName) {
	t.Helper()
	got, err := v.Inode(in.ino)
	if err != nil {
		t.Fatalf("inode %d: %v", in.ino, err)
	}
	slices.SortFunc(names, byName)
	slices.SortFunc(got.Links, byName)
	want := &Inode{
		Ino: in.ino, Stat: in.stat(len(names)), Links: names, Content: in.content.Local(), Key: in.key, Target: in.target, Xattrs: uint32(len(in.xattrs)),
		Role: in.role, Entries: uint64(len(in.entries)), Subdirs: in.subdirs(),
		UIDValidity: in.validity, UIDNext: in.uidNext, HighestModSeq: in.highest, Vanished: uint64(len(in.vanished)), VanishedFloor: in.floor,
	}
	if in.role == RoleRoot || in.role == RoleFolder {
		want.Messages = uint64(len(in.messages()))
	}
	same(t, "inode", got, want)

	xattrs, err := v.Xattrs(in.ino)
	if err != nil || !slices.Equal(xattrs, slices.Sorted(maps.Keys(in.xattrs))) {
		t.Fatalf("inode %d has attributes %q, %v, want %q", in.ino, xattrs, err, in.xattrs)
	}
	for name, value := range in.xattrs {
		if got, err := v.Xattr(in.ino, name); err != nil || string(got) != value {
			t.Fatalf("attribute %s of inode %d is %q, %v, want %q", name, in.ino, got, err, value)
		}
	}
	if _, err := v.Xattr(in.ino, "user.none"); err != syscall.ENODATA {
		t.Fatalf("missing attribute: %v", err)
	}
	if sealed, err := v.ReadContent(got, nil); err != nil || !bytes.Equal(sealed, in.sealed) {
		t.Fatalf("content of inode %d: %d octets, %v, want %d", in.ino, len(sealed), err, len(in.sealed))
	}
}

func compareDir(t *rapid.T, v *View, dir *modelInode, names map[Ino][]LinkName) {
	t.Helper()
	r, err := v.OpenDir(dir.ino)
	if err != nil {
		t.Fatalf("open directory %d: %v", dir.ino, err)
	}
	for _, name := range slices.Sorted(maps.Keys(dir.entries)) {
		e := dir.entries[name]
		want := DirEntry{Name: name, Ino: e.in.ino, Stat: e.in.stat(len(names[e.in.ino])), UID: e.uid, ModSeq: e.modseq}
		got, ok := r.Next()
		if !ok {
			t.Fatalf("directory %d ends before %q: %v", dir.ino, name, r.Err())
		}
		same(t, "entry", got, want)
		found, err := v.Lookup(dir.ino, name)
		if err != nil {
			t.Fatalf("look up %q: %v", name, err)
		}
		same(t, "looked up", found, want)
	}
	if de, ok := r.Next(); ok || r.Err() != nil {
		t.Fatalf("directory %d has more: %+v, %v", dir.ino, de, r.Err())
	}
	if err := r.Close(); err != nil {
		t.Fatalf("close directory: %v", err)
	}
	if _, err := v.Lookup(dir.ino, "none"); err != syscall.ENOENT {
		t.Fatalf("missing name: %v", err)
	}
}

// messages are the messages of a folder, by UID.
func (in *modelInode) messages() []IndexEntry {
	var all []IndexEntry
	for _, box := range []string{"cur", "new"} {
		e := in.entries[box]
		if e == nil {
			continue
		}
		for name, msg := range e.in.entries {
			if msg.uid != 0 {
				all = append(all, IndexEntry{msg.uid, msg.modseq, msg.in.size, msg.in.mtime, e.in.role, name, msg.in.ino})
			}
		}
	}
	slices.SortFunc(all, func(a, b IndexEntry) int { return cmp.Compare(a.UID, b.UID) })
	return all
}

func compareFolder(t *rapid.T, v *View, folder *modelInode, since ModSeq) {
	t.Helper()
	x, err := v.FolderIndex(folder.ino, since)
	if err != nil {
		t.Fatalf("index of %d: %v", folder.ino, err)
	}
	if since < folder.floor {
		since = 0
	}
	messages := folder.messages()
	var vanished []Vanished
	if since > 0 {
		messages = slices.DeleteFunc(messages, func(e IndexEntry) bool { return e.ModSeq <= since })
		for _, gone := range folder.vanished {
			if gone.ModSeq > since {
				vanished = append(vanished, gone)
			}
		}
		slices.SortFunc(vanished, func(a, b Vanished) int { return cmp.Compare(a.UID, b.UID) })
	}
	if x.Since != since || !slices.Equal(x.Messages, messages) || !slices.Equal(x.Vanished, vanished) {
		t.Fatalf("index of %d since %d: %+v\nwant %+v\nvanished %+v", folder.ino, since, x, messages, vanished)
	}
}

func compareOrphans(t *rapid.T, v *View, m *model) {
	t.Helper()
	h := v.store.Acquire()
	defer h.Release()
	n := 0
	for _, a := range m.accounts {
		for id, o := range a.orphans {
			n++
			for number, want := range o.pieces {
				got, c, err := h.Get(pieceKey(id, number))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("piece %d of %d: %v", number, id, err)
				}
				c.Close()
			}
		}
	}
	it, err := newIter(h, []byte{prefixOrphan})
	if err != nil {
		t.Fatalf("orphans: %v", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		id, o, err := orphanAt(it)
		if err != nil {
			t.Fatalf("orphan: %v", err)
		}
		want := m.accounts[id.Account()].orphans[id]
		if want == nil || o.since != want.since || int(o.pieces) != len(want.pieces) {
			t.Fatalf("orphan %d: %+v, want %+v", id, o, want)
		}
		n--
	}
	if err := it.Close(); err != nil || n != 0 {
		t.Fatalf("%d orphans are missing, %v", n, err)
	}
}

func same(t fataler, what string, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, d)
	}
}
