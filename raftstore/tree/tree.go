package tree

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Tree is the state machine. Apply and Committed are called by one goroutine; views are read by any.
type Tree struct {
	store  *machine.Store
	tombs  uint64   // tombstones kept of a folder; the same on every replica
	txn    txn      // of the command that is being applied
	events []*Event // of commands whose batch is not committed yet

	mu          sync.Mutex
	subscribers map[int]func(*Event)
	nextSub     int
}

// New makes a tree over the store, whose keys that begin with 'a' and 'o' are the tree's.
func New(store *machine.Store) *Tree {
	return &Tree{store: store, tombs: maxTombs, subscribers: map[int]func(*Event){}}
}

// View reads what has been applied.
func (t *Tree) View() *View { return &View{t.store} }

// Subscribe has fn called with what each applied command changed, after it is visible, on the applying goroutine: fn must
// only take note. cancel ends it.
func (t *Tree) Subscribe(fn func(*Event)) (cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.nextSub
	t.nextSub++
	t.subscribers[id] = fn
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subscribers, id)
	}
}

// Replaced implements machine.Machine: subscribers get an Event that says so.
func (t *Tree) Replaced() {
	t.events = append(t.events, &Event{Replaced: true})
	t.Committed()
}

// Committed tells the subscribers what the committed batches changed.
func (t *Tree) Committed() {
	if len(t.events) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ev := range t.events {
		for _, fn := range t.subscribers {
			fn(ev)
		}
	}
	clear(t.events)
	t.events = t.events[:0]
}

// Apply adds what cmd changes to b, an indexed batch over the tree's store.
func (t *Tree) Apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (Result, error) {
	x := &t.txn
	x.begin(b, index, cmd.Now, t.tombs)
	value, err := uint64(0), x.thawed(cmd)
	if err == nil {
		value, err = x.apply(cmd)
	}
	if err == nil {
		err = x.withinQuota()
	}
	if errno, ok := err.(syscall.Errno); ok {
		return Result{Errno: errno, Index: index}, nil
	}
	if err == nil {
		err = x.flush()
	}
	if err != nil {
		return Result{}, err
	}
	if len(x.event.Changes) > 0 || len(x.event.Folders) > 0 {
		ev := x.event
		ev.Index, ev.Session = index, cmd.GetRequest().GetSession()
		t.events = append(t.events, &ev)
	}
	return Result{Value: value, Index: index}, nil
}

func (x *txn) apply(cmd *raftpb.Command) (uint64, error) {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_CreateAccount:
		return 0, x.createAccount(op.CreateAccount)
	case *raftpb.Command_RemoveAccount:
		return 0, x.removeAccount(op.RemoveAccount)
	case *raftpb.Command_SetQuota:
		return 0, x.setQuota(op.SetQuota)
	case *raftpb.Command_ReserveInodes:
		return x.reserveInodes(op.ReserveInodes)
	case *raftpb.Command_Create:
		return op.Create.Inode, x.create(op.Create)
	case *raftpb.Command_Link:
		return op.Link.Inode, x.link(op.Link)
	case *raftpb.Command_Unlink:
		return 0, x.unlink(op.Unlink)
	case *raftpb.Command_Rename:
		return x.rename(op.Rename)
	case *raftpb.Command_SetAttr:
		return 0, x.setAttr(op.SetAttr)
	case *raftpb.Command_SetContent:
		return 0, x.setContent(op.SetContent)
	case *raftpb.Command_PutPiece:
		return 0, x.putPiece(op.PutPiece)
	case *raftpb.Command_DropContent:
		return 0, x.dropContent(op.DropContent)
	case *raftpb.Command_SetXattr:
		return 0, x.setXattr(op.SetXattr)
	case *raftpb.Command_RemoveXattr:
		return 0, x.removeXattr(op.RemoveXattr)
	case *raftpb.Command_ReapOrphans:
		return x.reapOrphans(op.ReapOrphans)
	case *raftpb.Command_BeginImport:
		return 0, x.beginImport(op.BeginImport)
	case *raftpb.Command_ImportRecords:
		return 0, x.importRecords(op.ImportRecords)
	case *raftpb.Command_EndImport:
		return 0, x.endImport(op.EndImport)
	case *raftpb.Command_FreezeAccount:
		return 0, x.freezeAccount(op.FreezeAccount)
	case *raftpb.Command_ResealContent:
		return 0, x.resealContent(op.ResealContent)
	case *raftpb.Command_FenceKeys:
		return 0, x.fenceKeys(op.FenceKeys)
	}
	return 0, syscall.EOPNOTSUPP
}
