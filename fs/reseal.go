package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"mailraft/fs/seal"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// An account that got a new key pair has what it stores sealed to it, content by content, while mail flows. Its record says so
// (raftpb.Account.previous_keys), and any node on which it is unlocked does it, from then on until the account is locked or nothing is left:
//
//   - Each content that is sealed to a previous key is opened with that and sealed anew; the shard takes it in place of the one that was read
//     (ResealContent), or not, if that is there no more. So two nodes that do it at once waste their time, and no more.
//   - When none is left, the shard is told to take none any more that is sealed to a previous key (FenceKeys): not from a node that has
//     not heard of the new one, nor what was staged before. What came until then is found by looking once more.
//   - Then nothing is sealed to the previous keys, or ever will be: the directory forgets them.

// ResealKeys are the keyring as a Resealer needs it; keyring.Keyring is one.
type ResealKeys interface {
	Identities(account uint64) []seal.Identity
	OnUnlock(f func(account uint64))
	OnLock(f func(account uint64))
}

// Resealer seals what accounts store to their new key pairs, while they are unlocked here.
type Resealer struct {
	store    *raftstore.Store
	proposer *raftstore.Proposer
	keys     ResealKeys
	log      *slog.Logger

	life context.Context
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex // held for a map operation
	works map[tree.Account]*Resealing
}

const (
	// resealWindow is how many contents of an account are sealed anew at once, so that their commits share an fsync.
	resealWindow = 4
	// resealAgain is when what could not be done is tried again.
	resealAgain = 2 * time.Second
	// resealStep bounds each proposal: as long as a move of the account may keep it waiting.
	resealStep = 30 * time.Second
)

// NewResealer begins to look after the accounts that are unlocked from now on, until Close.
func NewResealer(store *raftstore.Store, keys ResealKeys, log *slog.Logger) *Resealer {
	r := &Resealer{store: store, proposer: store.NewProposer(), keys: keys, log: log, works: map[tree.Account]*Resealing{}}
	r.life, r.stop = context.WithCancel(context.Background())
	look := func(account uint64) { r.look(tree.Account(account)) }
	keys.OnUnlock(look)
	keys.OnLock(look)
	return r
}

// Close ends what is under way. It goes on at the next unlock, here or on another node.
func (r *Resealer) Close() error {
	r.stop()
	r.mu.Lock()
	r.works = nil
	r.mu.Unlock()
	r.done.Wait()
	return nil
}

// Resealing is the work on one account, as long as it is unlocked with one key.
type Resealing struct {
	account tree.Account
	ids     []seal.Identity
	cancel  context.CancelFunc
	ended   chan struct{}

	files, octets, total, totalOctets atomic.Uint64
}

// Ended is closed when the work is done, or the account was locked.
func (w *Resealing) Ended() <-chan struct{} { return w.ended }

// Progress is how many of the account's contents are sealed to its new key, of how many, and the octets of their sealed forms; total is 0
// before they were counted.
func (w *Resealing) Progress() (files, octets, total, totalOctets uint64) {
	return w.files.Load(), w.octets.Load(), w.total.Load(), w.totalOctets.Load()
}

// Work is what is under way here for the account; nil: nothing.
func (r *Resealer) Work(a tree.Account) *Resealing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.works[a]
}

// look begins what is to be done for an account that was unlocked, or ends it: hooks may come in any order.
func (r *Resealer) look(a tree.Account) {
	ids := r.keys.Identities(uint64(a))
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.works[a]
	if r.works == nil || w != nil && len(ids) > 0 && w.ids[0] == ids[0] {
		return
	}
	if w != nil {
		w.cancel()
		delete(r.works, a)
	}
	if len(ids) < 2 { // locked, or all of it is sealed to its only key
		return
	}
	ctx, cancel := context.WithCancel(r.life)
	w = &Resealing{account: a, ids: ids, cancel: cancel, ended: make(chan struct{})}
	r.works[a] = w
	r.done.Go(func() {
		defer cancel()
		r.run(ctx, w)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.works[a] == w {
			delete(r.works, a)
		}
		close(w.ended)
	})
}

// run does the work, and tries again what fails.
func (r *Resealer) run(ctx context.Context, w *Resealing) {
	log := r.log.With("account", uint64(w.account))
	for begun := time.Now(); ; {
		err := r.all(ctx, w)
		switch {
		case err == nil:
			log.Info("nothing is sealed to the account's previous keys any more", "took", time.Since(begun).Round(time.Millisecond))
			return
		case ctx.Err() != nil, errors.Is(err, seal.ErrWiped), errors.Is(err, errOtherKey):
			log.Info("sealing an account to its new key goes on when it is unlocked again")
			return
		}
		log.Warn("sealing an account to its new key: tried again", "error", err)
		select {
		case <-time.After(resealAgain):
		case <-ctx.Done():
		}
	}
}

// errOtherKey says that the account's key is not the one that it was unlocked with.
var errOtherKey = errors.New("the account has another key")

// all seals all of the account's contents anew, and has the previous keys forgotten: nil when that is done.
func (r *Resealer) all(ctx context.Context, w *Resealing) error {
	d := r.store.Directory()
	for fenced := false; ; {
		if err := d.ReadIndex(ctx); err != nil {
			return err
		}
		a, err := d.Account(w.account)
		switch {
		case err != nil:
			return err
		case a.Recipient != w.ids[0].Recipient().String():
			return errOtherKey
		case !a.IsResealed(): // another node has done it
			return nil
		case len(w.ids) <= len(a.PreviousKeys):
			return errors.New("not all of its previous keys can be opened")
		}
		changed, err := r.pass(ctx, w, a)
		if err != nil {
			return err
		}
		switch {
		case changed: // what came meanwhile may be sealed to a previous key
		case !fenced:
			if err := r.within(ctx, func(ctx context.Context) error { return d.FenceKeys(ctx, w.account, a.Key) }); err != nil {
				return err
			}
			fenced = true
		default:
			err := r.within(ctx, func(ctx context.Context) error { return d.DropPreviousKeys(ctx, a) })
			if !errors.Is(err, syscall.EAGAIN) { // else the record has changed since
				return err
			}
		}
	}
}

func (r *Resealer) within(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, resealStep)
	defer cancel()
	return fn(ctx)
}

// pass seals anew what is found to be sealed to a previous key, and tells whether there was any. What can't be opened does not keep the rest
// from it; it is the error then.
func (r *Resealer) pass(ctx context.Context, w *Resealing, a *raftpb.Account) (changed bool, err error) {
	found, err := r.store.Directory().Sealed(ctx, a)
	if err != nil {
		return false, err
	}
	w.found(found)
	left := found.Previous
	if len(left) == 0 {
		return false, nil
	}
	var some atomic.Bool
	var mu sync.Mutex
	var unreadable []error
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(resealWindow)
	first := rand.IntN(len(left)) // another node that is at it is not met at each
	for i := range left {
		f := left[(first+i)%len(left)]
		group.Go(func() error {
			err := gctx.Err()
			if err == nil {
				err = r.one(gctx, w, a, f)
			}
			switch {
			case err == nil, r.changed(w, f, err):
				some.Store(true)
				w.files.Add(1)
				w.octets.Add(f.Octets)
			case errors.Is(err, seal.ErrWrongKey) && f.Key == 0: // to one that was discarded when keys had no numbers
			case errors.Is(err, seal.ErrCorrupt), errors.Is(err, tree.ErrCorrupt), errors.Is(err, seal.ErrWrongKey), notFound(err):
				mu.Lock()
				defer mu.Unlock()
				unreadable = append(unreadable, fmt.Errorf("inode %d: %w", uint64(f.Ino), err))
			default:
				return err
			}
			return nil
		})
	}
	err = group.Wait()
	if err == nil && len(unreadable) > 0 {
		err = fmt.Errorf("%d files can't be opened (find -inum finds them below the mount), the first %w: mend them, or remove them", len(unreadable), unreadable[0])
	}
	return some.Load(), err
}

// notFound tells whether a file, or the content that it had, was not found.
func notFound(err error) bool {
	return errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.ENOENT)
}

// changed tells whether a file was not sealed anew because it was changed or removed meanwhile.
func (r *Resealer) changed(w *Resealing, f raftstore.SealedFile, err error) bool {
	if !notFound(err) {
		return false
	}
	in, err := r.store.Home(w.account).View().Inode(f.Ino)
	return err != nil || in.Content != f.Content
}

func (w *Resealing) found(s *raftstore.Sealed) {
	w.total.Store(s.Files)
	w.totalOctets.Store(s.Octets)
	w.files.Store(s.Files - uint64(len(s.Previous)))
	w.octets.Store(s.Octets - s.PreviousOctets())
}

// one seals a content anew. Errors: ESTALE, ENOENT when it has changed since it was found; package seal's; those of proposals.
func (r *Resealer) one(ctx context.Context, w *Resealing, a *raftpb.Account, f raftstore.SealedFile) error {
	message, err := r.open(w, f)
	if err != nil {
		return err
	}
	defer message.Close()
	var id tree.Ino
	err = r.within(ctx, func(ctx context.Context) (err error) {
		id, err = r.proposer.ReserveIno(ctx, w.account)
		return err
	})
	if err != nil {
		return err
	}
	p := pieces{id: id, reseals: true, propose: func(cmd *raftpb.Command) error {
		return r.propose(ctx, cmd, len(cmd.GetPutPiece().GetData()))
	}}
	c := content{id: id, size: f.Size, key: a.Key}
	if err = sealAnew(&p, message, w.ids[0].Recipient()); err == nil {
		err = p.finish(&c)
	}
	if err == nil {
		err = r.propose(ctx, &raftpb.Command{Op: &raftpb.Command_ResealContent{ResealContent: &raftpb.ResealContent{
			Inode: uint64(f.Ino), Was: uint64(tree.MakeIno(w.account, f.Content)), Content: c.command(),
		}}}, len(c.inline))
	}
	if err != nil && p.abandon() {
		if derr := r.propose(ctx, dropping(id), 0); derr != nil && derr != syscall.ENOENT {
			r.log.Debug("the pieces of a content that was given up stay for a day", "account", uint64(w.account), "error", derr)
		}
	}
	return err
}

// openMessage is a message that is being read.
type openMessage struct {
	*seal.Reader
	src tree.ContentReader // nil: it was read whole
}

// Close wipes what was read.
func (m *openMessage) Close() error {
	err := m.Reader.Close()
	if m.src != nil {
		err = errors.Join(err, m.src.Close())
	}
	return err
}

// open opens a file's message.
func (r *Resealer) open(w *Resealing, f raftstore.SealedFile) (*openMessage, error) {
	in := &tree.Inode{Ino: f.Ino, Content: f.Content}
	in.Size, in.SealedSize = f.Size, f.Octets
	m := new(openMessage)
	var src io.ReaderAt
	view := r.store.Home(w.account).View()
	if f.Octets <= pinInline {
		sealed, err := view.ReadContent(in, make([]byte, 0, f.Octets))
		if err != nil {
			return nil, err
		}
		src = bytes.NewReader(sealed)
	} else {
		var err error
		if m.src, err = view.OpenContent(in); err != nil {
			return nil, err
		}
		src = m.src
	}
	var err error
	if m.Reader, err = seal.Open(src, int64(f.Octets), int64(f.Size), w.ids...); err == nil {
		return m, nil
	}
	if m.src != nil {
		err = errors.Join(err, m.src.Close())
	}
	return nil, err
}

// sealAnew seals a message to another key, and wipes what it holds of it.
func sealAnew(to io.Writer, message *openMessage, key *seal.Recipient) error {
	size := message.Size()
	plain := make([]byte, min(size, seal.FrameSize))
	defer clear(plain)
	s, err := seal.NewWriter(to, key)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{io.NewSectionReader(message, 0, size)}, plain); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Close()
}

// propose commits a command of so many octets, within the bandwidth that there is for that.
func (r *Resealer) propose(ctx context.Context, cmd *raftpb.Command, octets int) error {
	if err := r.store.Spend(ctx, octets); err != nil {
		return err
	}
	return r.within(ctx, func(ctx context.Context) error {
		result, err := r.proposer.Propose(ctx, cmd)
		if err == nil {
			err = result.Err()
		}
		return err
	})
}
