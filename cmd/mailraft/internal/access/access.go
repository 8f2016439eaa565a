package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

var (
	// ErrNoSlots: no password opens the account.
	ErrNoSlots = errors.New("account has no key slots")
	// ErrUnsure: this node's copy of the directory may lag behind, and no quorum answers that could tell.
	ErrUnsure = errors.New("the directory has no quorum that answers: try again later")
)

// patience bounds how long an answer waits until it is known to be the newest. It is more than the 3 s for which a group looks for a
// leader, so that a node's death refuses nobody; and less than the mount's 10 s: a sender's recipients are asked for one after the
// other, and a person waits for a login.
const patience = 5 * time.Second

// Control opens accounts of a store's directory in a keyring.
type Control struct {
	store      *raftstore.Store
	directory  *raftstore.Directory
	keyring    *keyring.Keyring
	iterations uint32 // of SCRAM, for users that do not exist
	log        *slog.Logger

	cancel func() // of the subscription
	done   chan struct{}
	life   context.Context
	stop   context.CancelFunc
	noting sync.WaitGroup

	mu       sync.Mutex // taken by the applying goroutine: never held for long
	learning map[uint32]struct{}
	changed  map[uint32]struct{}
	all      bool          // any account may have changed
	news     chan struct{} // has an element while there is something in changed, or all is set
}

// New begins to follow the directory, until Close. iterations are those that SCRAM slots are made with.
func New(store *raftstore.Store, ring *keyring.Keyring, iterations uint32, log *slog.Logger) *Control {
	life, stop := context.WithCancel(context.Background())
	c := &Control{
		store: store, directory: store.Directory(), keyring: ring, iterations: iterations, log: log,
		done: make(chan struct{}), life: life, stop: stop,
		learning: map[uint32]struct{}{}, changed: map[uint32]struct{}{}, news: make(chan struct{}, 1),
	}
	c.cancel = c.directory.Subscribe(c.note)
	go c.follow()
	return c
}

// Close ends the following. The sessions are the keyring's to end.
func (c *Control) Close() error {
	c.cancel()
	c.stop()
	<-c.done
	c.noting.Wait()
	return nil
}

// note takes down which account a change is about, or that all of the directory was replaced. It is called on the applying goroutine.
func (c *Control) note(ev raftstore.DirectoryEvent) {
	if !ev.Replaced && (ev.Account == 0 || ev.Added) {
		return
	}
	c.mu.Lock()
	if ev.Replaced {
		c.all = true
	} else {
		c.changed[ev.Account] = struct{}{}
	}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// follow enforces what changes. Locking an account calls back into the mount, so it is done here, and not where it is applied.
func (c *Control) follow() {
	defer close(c.done)
	for {
		select {
		case <-c.life.Done():
			return
		case <-c.news:
		}
		c.mu.Lock()
		changed, all := c.changed, c.all
		c.changed, c.all = map[uint32]struct{}{}, false
		c.mu.Unlock()
		if all {
			for _, a := range c.keyring.Status() { // those that are unlocked
				changed[uint32(a.Account)] = struct{}{}
			}
		}
		for n := range changed {
			c.Enforce(n)
		}
	}
}

// Enforce ends the account's sessions that its record, as it is on this node, does not allow: those of slots that are gone, and
// all of an account that is gone. follow does so after every change; it is called where that must have been done.
func (c *Control) Enforce(number uint32) {
	if _, unlocked := c.keyring.Identity(uint64(number)); !unlocked {
		return
	}
	slots, err := c.slots(number)
	if err != nil {
		c.log.Error("an account is locked, for its key slots cannot be read", "account", number, "error", err)
	}
	c.keyring.Keep(uint64(number), slots)
}

// slots are the account's; none of one that is gone.
func (c *Control) slots(number uint32) ([]*slot.Slot, error) {
	a, err := c.directory.Account(tree.Account(number))
	if errors.Is(err, syscall.ENOENT) || err == nil && a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return Slots(a)
}

// Passwords reads the records of the account's key slots that passwords open.
func Passwords(a *raftpb.Account) ([]*slot.Slot, error) {
	slots, err := Slots(a)
	return slices.DeleteFunc(slots, func(s *slot.Slot) bool { return s.Kind != slot.Password }), err
}

// NextSlot is a slot number that the account has not.
func NextSlot(a *raftpb.Account) uint32 {
	last := uint32(0)
	for _, sl := range a.Slots {
		last = max(last, sl.Id)
	}
	return last + 1
}

// Slots reads the records of an account's key slots.
func Slots(a *raftpb.Account) ([]*slot.Slot, error) {
	slots := make([]*slot.Slot, 0, len(a.Slots))
	for _, r := range a.Slots {
		s, err := slot.Unmarshal(r.Record)
		if err != nil {
			return nil, err
		}
		slots = append(slots, s)
	}
	return slots, nil
}

// Current returns nil once the directory's copy here shows everything that any node acknowledged before the call. Errors: ctx's,
// ErrUnsure.
func (c *Control) Current(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.directory.ReadIndex(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w (%v)", ErrUnsure, err) // what failed there is not what was asked for: its errno says nothing here
}

// Find finds an account by its address, as it is on this node. That there is none is never stale. Errors: ErrAddress, ErrNoSuchDomain
// and ErrNoSuchAccount of package raftstore; those of Current.
func (c *Control) Find(ctx context.Context, address string) (*raftpb.Account, error) {
	a, err := c.findHere(address)
	if errors.Is(err, syscall.ENOENT) {
		if err := c.Current(ctx); err != nil {
			return nil, err
		}
		a, err = c.findHere(address)
	}
	return a, err
}

func (c *Control) findHere(address string) (*raftpb.Account, error) {
	local, domain, err := raftstore.SplitAddress(address)
	if err != nil {
		return nil, err
	}
	return c.directory.FindAccount(local, domain)
}

// Unlock starts a session of an account that was found for who knows the password, or an app password that is good for the protocol ("": none
// is), waiting for its turn as one of the party from. lifetime and readers are keyring.Unlock's. It returns the account's record of then. Errors:
// ErrNoSlots, those of keyring.Unlock and of Current.
//
// The record may be of a copy of the directory that lags behind, so nobody is refused by it: the password may be the one that was just
// set on another node.
//
// A derivation takes its time, and longer when many wait. Whatever happens to the account meanwhile: the session that is returned
// was opened by a slot that the account had at the end of it, or is over.
func (c *Control) Unlock(
	ctx context.Context, from string, a *raftpb.Account, password []byte, protocol string, lifetime time.Duration, readers ...uint32,
) (*raftpb.Account, *keyring.Session, error) {
	address := a.Address()
	for newest := false; ; {
		session, err := c.open(ctx, from, a, password, protocol, lifetime, readers)
		if !newest && (errors.Is(err, keyring.ErrWrongPassword) || errors.Is(err, ErrNoSlots)) {
			if err := c.Current(ctx); err != nil {
				return nil, nil, err
			}
			newest = true
			if now, err := c.findHere(address); err == nil && !sameSlots(now, a) {
				a = now
				continue
			}
		}
		if err != nil {
			return nil, nil, err
		}
		if a, session, err = c.settled(a, session); err != nil || session != nil {
			return a, session, err
		}
	}
}

// settled makes sure that what has opened a session is still one of the account's slots: else the session is closed and nil, and the record is
// the one that has changed. Errors: keyring.ErrWrongPassword when the account is gone.
func (c *Control) settled(a *raftpb.Account, session *keyring.Session) (*raftpb.Account, *keyring.Session, error) {
	// A change that does not show here yet finds the session when it is enforced.
	now, err := c.findHere(a.Address())
	if err == nil && now.Number == a.Number && now.Version == a.Version {
		return c.checked(a, session)
	}
	c.Enforce(a.Number)
	if err == nil && now.Number == a.Number && !ended(session) { // something else of the record changed
		return c.checked(now, session)
	}
	session.Close()
	if errors.Is(err, syscall.ENOENT) {
		err = keyring.ErrWrongPassword
	}
	if err != nil {
		return nil, nil, err
	}
	return now, nil, nil
}

// open tries the password on the slots of the record.
func (c *Control) open(
	ctx context.Context, from string, a *raftpb.Account, password []byte, protocol string, lifetime time.Duration, readers []uint32,
) (*keyring.Session, error) {
	if session, err := c.openApp(a, password, protocol, lifetime, readers); session != nil || err != nil {
		return session, err
	}
	slots, err := Passwords(a)
	if err != nil {
		return nil, err
	}
	if len(slots) == 0 {
		return nil, ErrNoSlots
	}
	session, err := c.keyring.Unlock(ctx, from, uint64(a.Number), slots, password, lifetime, readers...)
	if err == nil {
		c.learn(a, password)
	}
	return session, err
}

// checked refuses a key that is not the record's: mail that comes in is sealed to the public key there.
func (c *Control) checked(a *raftpb.Account, session *keyring.Session) (*raftpb.Account, *keyring.Session, error) {
	id, ok := c.keyring.Identity(uint64(a.Number))
	if ok && !ended(session) && id.Recipient().String() != a.Unlocks() {
		session.Close()
		return nil, nil, fmt.Errorf("account %d: the directory's public key is not that of the private key in its slots", a.Number)
	}
	return a, session, nil
}

// sameSlots tells whether what opens the one opens the other too.
func sameSlots(a, b *raftpb.Account) bool {
	return a.Number == b.Number && slices.EqualFunc(a.Slots, b.Slots, func(x, y *raftpb.Slot) bool {
		return bytes.Equal(x.Record, y.Record) && slices.Equal(x.Protocols, y.Protocols)
	})
}

func ended(s *keyring.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}
