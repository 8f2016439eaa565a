package fs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mailraft/fs/seal"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// The inode numbers that are no account's: account 0 has the mount's root and the domains, bit 63 the virtual files.
const (
	rootIno     = tree.Ino(1)
	firstDomain = 16 // a domain's directory has this and the domain's number
	virtualBit  = tree.Ino(1) << 63
)

func isVirtual(i tree.Ino) bool { return i&virtualBit != 0 }

// isTop tells whether it is the root or a domain: directories that the mount makes of the directory, and nobody may change.
func isTop(i tree.Ino) bool { return i.Account() == 0 }

func domainIno(id uint32) tree.Ino { return tree.MakeIno(0, firstDomain+uint64(id)) }

func domainOf(i tree.Ino) (id uint32, ok bool) {
	if i.Account() != 0 || i.Local() < firstDomain {
		return 0, false
	}
	return uint32(i.Local() - firstDomain), true
}

// account is what handlers need to know of the account that an inode belongs to.
type account struct {
	number tree.Account
	home   raftstore.Home
	view   tree.Reader // home's
	record *raftpb.Account

	once      sync.Once
	recipient *seal.Recipient
	badKey    error

	headers   chan *seal.Prepared // holds one at most
	preparing atomic.Bool         // one is being made, or is there
}

// key is the account's public key, to which its files are sealed.
func (a *account) key() (*seal.Recipient, error) {
	a.once.Do(func() {
		a.recipient, a.badKey = seal.ParseRecipient(a.record.Recipient)
		if a.badKey != nil {
			a.badKey = fmt.Errorf("public key of account %d: %w", a.number, a.badKey)
		}
	})
	return a.recipient, a.badKey
}

// prepareHeader has the header of the account's next sealed content made, if there is none yet: wrapping the content's key does not
// depend on the content, and is most of the work of sealing a small message. So it is done while messages are written and
// committed, and not while somebody waits for close(2).
func (a *account) prepareHeader() {
	if !a.preparing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		var p *seal.Prepared
		key, err := a.key()
		if err == nil {
			p, err = seal.Prepare(key)
		}
		if err != nil { // sealing will say it
			a.preparing.Store(false)
			return
		}
		a.headers <- p
	}()
}

// sealBytes seals a message that is in memory, appended to dst, with the header that was prepared if there is one. owner is the
// account's private key if it is unlocked: then reading what is sealed will cost it less. Bare, only who has the key elsewhere reads it.
func (a *account) sealBytes(dst, message []byte, key *seal.Recipient, owner seal.Identity, bare bool) ([]byte, error) {
	headers := a.headers
	if a.record.Pinned() && !bare {
		headers = nil // those are for messages
	}
	var p *seal.Prepared
	select {
	case p = <-headers:
		a.preparing.Store(false)
		a.prepareHeader()
	default:
		var err error
		if p, err = seal.Prepare(key); err != nil {
			return nil, err
		}
	}
	if bare {
		return p.SealBare(dst, message)
	}
	owner.Remember(p)
	return p.SealBytes(dst, message)
}

// gate is what every request on an inode of an account passes: it knows whose it is, and whether that is locked.
type gate struct {
	store *raftstore.Store
	keys  Keys

	mu       sync.RWMutex // held for a map operation
	accounts map[tree.Account]*account
	changes  uint64                 // calls of forget
	roles    map[tree.Ino]tree.Role // of directories: they never change, and numbers are never used again
}

// Bounds of tables: of the accounts, which take some 13 KiB each with key and header (50 MiB), and of those that have a number or an
// inode an entry.
const (
	maxAccounts = 4 << 10
	maxGate     = 64 << 10
)

func newGate(store *raftstore.Store, keys Keys) *gate {
	return &gate{store: store, keys: keys, accounts: map[tree.Account]*account{}, roles: map[tree.Ino]tree.Role{}}
}

// of finds the account of an inode: ENOENT, and EPERM for the root and the domains.
func (g *gate) of(i tree.Ino) (*account, error) {
	n := i.Account()
	if n == 0 || isVirtual(i) {
		return nil, syscall.EPERM
	}
	g.keys.Use(uint64(n))
	return g.account(n)
}

func (g *gate) account(n tree.Account) (*account, error) {
	g.mu.RLock()
	a, changes := g.accounts[n], g.changes
	g.mu.RUnlock()
	if a != nil {
		return a, nil
	}
	record, err := g.store.Directory().Account(n)
	if err != nil {
		return nil, err
	}
	if record.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		return nil, syscall.ENOENT
	}
	home := g.store.Home(n)
	a = &account{number: n, home: home, view: home.View(), record: record, headers: make(chan *seal.Prepared, 1)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changes != changes { // what was read may be older than what forget was called for
		return a, nil
	}
	if g.accounts[n] == nil && len(g.accounts) >= maxAccounts {
		for other := range g.accounts { // any
			delete(g.accounts, other)
			break
		}
	}
	g.accounts[n] = a
	return a, nil
}

// forget has the account's record read again.
func (g *gate) forget(n tree.Account) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changes++
	delete(g.accounts, n)
}

// role is what a directory is to its Maildir++: ENOENT, ENOTDIR.
func (g *gate) role(a *account, dir tree.Ino) (tree.Role, error) {
	g.mu.RLock()
	role, ok := g.roles[dir]
	g.mu.RUnlock()
	if ok {
		return role, nil
	}
	in, err := a.view.Inode(dir)
	if err != nil {
		return 0, err
	}
	if !in.IsDir() {
		return 0, syscall.ENOTDIR
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.roles) >= maxGate {
		clear(g.roles)
	}
	g.roles[dir] = in.Role
	return in.Role, nil
}

// identities are the account's private keys, of which one opens each content: ENOKEY when it is locked.
func (g *gate) identities(a *account) ([]seal.Identity, error) {
	ids := g.keys.Identities(uint64(a.number))
	if len(ids) == 0 {
		return nil, syscall.ENOKEY
	}
	return ids, nil
}

// readable says whether a process of the user may read the account: ENOKEY when it is locked, EACCES when it is unlocked for others alone.
func (g *gate) readable(a *account, uid uint32) error {
	switch unlocked, readable := g.keys.Readable(uint64(a.number), uid); {
	case !unlocked:
		return syscall.ENOKEY
	case !readable:
		return syscall.EACCES
	}
	return nil
}

func (g *gate) locked(a *account) bool {
	_, ok := g.keys.Identity(uint64(a.number))
	return !ok
}

// deadlines gives requests the time until which they may wait. The kernel's interrupts are not asked: a proposal that is on its
// way may be committed, and EINTR would say that it was not. One context serves all requests of a second, which spares each a
// timer; a request gets between limit and a second more.
type deadlines struct {
	limit time.Duration

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	made   time.Time
}

func (d *deadlines) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.ctx == nil || now.Sub(d.made) > time.Second {
		// The one before ends by its own deadline: requests still hold it.
		d.ctx, d.cancel = context.WithDeadline(context.Background(), now.Add(d.limit+time.Second))
		d.made = now
	}
	return d.ctx
}

// propose commits a command that changes an account: the state machine's errno, or the transport's.
func (m *mount) propose(cmd *raftpb.Command) error {
	r, err := m.proposer.Propose(m.time.context(), cmd)
	if err != nil {
		m.inval.doubt() // it may be committed yet
		return err
	}
	return r.Err()
}

// reserve gives a number for a new inode or content of the account.
func (m *mount) reserve(a *account) (tree.Ino, error) {
	return m.proposer.ReserveIno(m.time.context(), a.number)
}
