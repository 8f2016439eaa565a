package directory

import (
	"encoding/binary"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// Keys: 'a' number (4): Account. 'd' domain: number (4). 'i' number (4): domain. 'l' domain number (4) local part: alias' targets.
// 'n' domain number (4) local part: account number (4). 'p' number (4): nothing, of an account that is being made, removed, moved or sealed anew.
// 'q': the numbers given last, account (4) and domain (4).
// 's' shard (4): PutShard. 't' token id: AddToken. 'u': PutCluster. 'v' node id: PutNode. 'w': RaiseVersion. 'x': PutSecret. 'y' key: NoteFailures. Numbers are big endian.
const (
	keyAccount    = 'a'
	keyDomain     = 'd'
	keyDomainName = 'i'
	keyAlias      = 'l'
	keyName       = 'n'
	keyUnfinished = 'p'
	keyNumbers    = 'q'
	keyShard      = 's'
	keyToken      = 't'
	keyCluster    = 'u'
	keyNode       = 'v'
	keyVersion    = 'w'
	keySecret     = 'x'
	keyFailures   = 'y'
)

// Event says what an applied command changed in what the mount shows.
type Event struct {
	Session   uint64
	Domain    string
	DomainID  uint32
	LocalPart string // "": the domain itself
	Account   uint32
	Added     bool
	Removed   bool // neither: the account's record changed, its keys perhaps
	Moving    bool // it is on its way to another shard
	Moved     bool // it is another shard's now
	Cluster   bool // the nodes' or the shards' records changed, and the rest here is empty
	Replaced  bool // the whole directory was replaced by the leader's: anything may have changed, and the rest here is empty
}

// Directory is the state machine.
type Directory struct {
	store  *machine.Store
	events []Event

	mu          sync.Mutex
	subscribers map[int]func(Event)
	nextSub     int
}

// New makes a directory over its group's store.
func New(store *machine.Store) *Directory {
	return &Directory{store: store, subscribers: map[int]func(Event){}}
}

// Subscribe has fn called with every change, after it is visible, on the applying goroutine: fn must only take note.
func (d *Directory) Subscribe(fn func(Event)) (cancel func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := d.nextSub
	d.nextSub++
	d.subscribers[id] = fn
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subscribers, id)
	}
}

// Committed implements machine.Machine.
func (d *Directory) Committed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ev := range d.events {
		for _, fn := range d.subscribers {
			fn(ev)
		}
	}
	d.events = d.events[:0]
}

// Replaced implements machine.Machine.
func (d *Directory) Replaced() {
	d.events = append(d.events, Event{Replaced: true})
	d.Committed()
}

func key(kind byte, number uint32, rest string) []byte {
	k := binary.BigEndian.AppendUint32([]byte{kind}, number)
	return append(k, rest...)
}

func nameKey(kind byte, name string) []byte { return append([]byte{kind}, name...) }

func get(r pebble.Reader, k []byte) ([]byte, error) {
	v, c, err := r.Get(k)
	if err == pebble.ErrNotFound {
		return nil, syscall.ENOENT
	}
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), v...)
	return b, c.Close()
}

// Apply implements machine.Machine. Errors of its results: ENOENT (no such domain or account), EEXIST (the name is taken),
// ENOTEMPTY (the domain has accounts or aliases), EAGAIN (the record has changed since it was read), EINVAL.
func (d *Directory) Apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (machine.Result, error) {
	before := len(d.events)
	value, err := d.apply(b, index, cmd)
	for i := before; i < len(d.events); i++ {
		d.events[i].Session = cmd.GetRequest().GetSession()
	}
	if errno, ok := err.(syscall.Errno); ok {
		return machine.Result{Errno: errno, Index: index}, nil
	}
	return machine.Result{Value: value, Index: index}, err
}

func (d *Directory) apply(b *pebble.Batch, index uint64, cmd *raftpb.Command) (uint64, error) {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_AddDomain:
		return 0, d.addDomain(b, op.AddDomain.Name)
	case *raftpb.Command_RemoveDomain:
		return 0, d.removeDomain(b, op.RemoveDomain.Name)
	case *raftpb.Command_AddAccounts:
		return d.addAccounts(b, op.AddAccounts.Accounts, cmd.Now)
	case *raftpb.Command_RestoreAccount:
		version := index
		if cmd.Version < machine.NamesLives {
			version = 1
		}
		return version, d.restoreAccount(b, version, op.RestoreAccount.Account)
	case *raftpb.Command_UpdateAccount:
		return 0, d.updateAccounts(b, []*raftpb.Account{op.UpdateAccount.Account})
	case *raftpb.Command_UpdateAccounts:
		return 0, d.updateAccounts(b, op.UpdateAccounts.Accounts)
	case *raftpb.Command_DropAccount:
		return 0, d.dropAccount(b, op.DropAccount)
	case *raftpb.Command_AddAlias:
		return 0, d.addAlias(b, op.AddAlias)
	case *raftpb.Command_RemoveAlias:
		return 0, d.removeAlias(b, op.RemoveAlias)
	case *raftpb.Command_PutShard:
		return 0, d.putShard(b, op.PutShard)
	case *raftpb.Command_PutNode:
		return 0, d.putNode(b, op.PutNode)
	case *raftpb.Command_PutCluster:
		return 0, d.putCluster(b, op.PutCluster)
	case *raftpb.Command_AddToken:
		return 0, d.addToken(b, op.AddToken, cmd.Now)
	case *raftpb.Command_UseToken:
		return 0, d.useToken(b, op.UseToken, cmd.Now)
	case *raftpb.Command_RaiseVersion:
		return 0, d.raiseVersion(b, op.RaiseVersion)
	case *raftpb.Command_PutSecret:
		return 0, putSecret(b, op.PutSecret)
	case *raftpb.Command_NoteFailures:
		return 0, noteFailures(b, op.NoteFailures, cmd.Now)
	}
	return 0, syscall.EOPNOTSUPP
}

// numbers are the account and the domain number given last.
func numbers(r pebble.Reader) (acct, dom uint32, err error) {
	v, err := get(r, []byte{keyNumbers})
	if err == syscall.ENOENT {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	return decodeNumbers(v)
}

func putNumbers(b *pebble.Batch, acct, dom uint32) error {
	return b.Set([]byte{keyNumbers}, appendNumber(appendNumber(nil, acct), dom), nil)
}

func (d *Directory) addDomain(b *pebble.Batch, name string) error {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return syscall.EINVAL
	}
	if err := absent(b, nameKey(keyDomain, name)); err != nil {
		return err
	}
	acct, dom, err := numbers(b)
	if err != nil {
		return err
	}
	dom++
	b.Set(nameKey(keyDomain, name), appendNumber(nil, dom), nil)
	b.Set(key(keyDomainName, dom, ""), []byte(name), nil)
	d.events = append(d.events, Event{Domain: name, DomainID: dom, Added: true})
	return putNumbers(b, acct, dom)
}

func (d *Directory) domain(r pebble.Reader, name string) (uint32, error) {
	v, err := get(r, nameKey(keyDomain, name))
	if err != nil {
		return 0, err
	}
	return decodeNumber(v)
}

func (d *Directory) removeDomain(b *pebble.Batch, name string) error {
	id, err := d.domain(b, name)
	if err != nil {
		return err
	}
	for _, kind := range []byte{keyName, keyAlias} {
		it, err := b.NewIter(&pebble.IterOptions{LowerBound: key(kind, id, ""), UpperBound: key(kind, id+1, "")})
		if err != nil {
			return err
		}
		used := it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if used {
			return syscall.ENOTEMPTY
		}
	}
	b.Delete(nameKey(keyDomain, name), nil)
	b.Delete(key(keyDomainName, id, ""), nil)
	d.events = append(d.events, Event{Domain: name, DomainID: id, Removed: true})
	return nil
}

func taken(r pebble.Reader, dom uint32, local string) error {
	for _, kind := range []byte{keyName, keyAlias} {
		if err := absent(r, key(kind, dom, local)); err != nil {
			return err
		}
	}
	return nil
}

// addAccounts adds all or none, and answers the number of the first; the others follow it.
func (d *Directory) addAccounts(b *pebble.Batch, list []*raftpb.Account, now int64) (uint64, error) {
	last, dom, err := numbers(b)
	if err != nil {
		return 0, err
	}
	domains := make([]uint32, len(list))
	seen := make(map[string]bool, len(list))
	for i, a := range list {
		id, err := d.domain(b, a.Domain)
		if err != nil {
			return 0, err
		}
		if a.LocalPart == "" || strings.ContainsAny(a.LocalPart, "/\x00") {
			return 0, syscall.EINVAL
		}
		if name := a.Address(); seen[name] {
			return 0, syscall.EEXIST
		} else {
			seen[name] = true
		}
		if err := taken(b, id, a.LocalPart); err != nil {
			return 0, err
		}
		domains[i] = id
	}
	first := last + 1
	for i, a := range list {
		last++
		a.Number, a.State, a.Version, a.Created = last, raftpb.AccountState_ACCOUNT_STATE_CREATING, 1, now
		if err := putAccount(b, a); err != nil {
			return 0, err
		}
		b.Set(key(keyName, domains[i], a.LocalPart), appendNumber(nil, last), nil)
	}
	return uint64(first), putNumbers(b, last, dom)
}

// restoreAccount adds an account under the number that it comes with, which must not be in use: EEXIST, as for its name. Its version is
// above all that an account of that number has had here, as each of those took an index of the log; so is its move.
func (d *Directory) restoreAccount(b *pebble.Batch, version uint64, a *raftpb.Account) error {
	last, dom, err := numbers(b)
	if err != nil {
		return err
	}
	id, err := d.domain(b, a.GetDomain())
	if err != nil {
		return err
	}
	if a.Number == 0 || a.Number >= 1<<28 || a.LocalPart == "" || strings.ContainsAny(a.LocalPart, "/\x00") {
		return syscall.EINVAL
	}
	if err := taken(b, id, a.LocalPart); err != nil {
		return err
	}
	if err := absent(b, key(keyAccount, a.Number, "")); err != nil {
		return err
	}
	a.State, a.Version = raftpb.AccountState_ACCOUNT_STATE_CREATING, version
	if version > 1 {
		a.Move = version
	}
	if err := putAccount(b, a); err != nil {
		return err
	}
	if err := b.Set(key(keyName, id, a.LocalPart), appendNumber(nil, a.Number), nil); err != nil {
		return err
	}
	return putNumbers(b, max(last, a.Number), dom)
}

// IsUnfinished tells whether an account is being made, removed or moved, or its contents sealed to a new key pair.
func IsUnfinished(a *raftpb.Account) bool {
	return a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE || a.IsMoving() || a.IsResealed()
}

// putAccount stores an account's record, and notes whether it is unfinished: who takes that up again after a crash does not read all
// accounts.
func putAccount(b *pebble.Batch, a *raftpb.Account) error {
	unfinished := key(keyUnfinished, a.Number, "")
	if IsUnfinished(a) {
		b.Set(unfinished, nil, nil)
	} else {
		b.Delete(unfinished, nil)
	}
	return put(b, key(keyAccount, a.Number, ""), a)
}

// updateAccounts replaces the records of all the accounts or of none.
func (d *Directory) updateAccounts(b *pebble.Batch, list []*raftpb.Account) error {
	events := make([]Event, len(list))
	seen := make(map[uint32]bool, len(list))
	for i, a := range list {
		old, err := account(b, a.GetNumber())
		if err != nil {
			return err
		}
		if old.Version != a.Version {
			return syscall.EAGAIN
		}
		if old.LocalPart != a.LocalPart || old.Domain != a.Domain || seen[a.Number] {
			return syscall.EINVAL
		}
		seen[a.Number] = true
		id, err := d.domain(b, a.Domain)
		if err != nil {
			return err
		}
		active := raftpb.AccountState_ACCOUNT_STATE_ACTIVE
		events[i] = Event{
			Domain: a.Domain, DomainID: id, LocalPart: a.LocalPart, Account: a.Number,
			Added:   old.State != active && a.State == active,
			Removed: old.State == active && a.State != active,
			Moving:  a.IsMoving(),
			Moved:   old.Shard != a.Shard,
		}
	}
	for _, a := range list {
		a.Version++
		if err := putAccount(b, a); err != nil {
			return err
		}
	}
	d.events = append(d.events, events...)
	return nil
}

func (d *Directory) dropAccount(b *pebble.Batch, c *raftpb.DropAccount) error {
	n := c.Number
	a, err := account(b, n)
	if err != nil {
		return err
	}
	if c.Version != 0 && (a.Version != c.Version || a.State != raftpb.AccountState_ACCOUNT_STATE_REMOVING) {
		return syscall.EAGAIN
	}
	id, err := d.domain(b, a.Domain)
	if err != nil {
		return err
	}
	b.Delete(key(keyAccount, n, ""), nil)
	b.Delete(key(keyUnfinished, n, ""), nil)
	b.Delete(key(keyName, id, a.LocalPart), nil)
	d.events = append(d.events, Event{Domain: a.Domain, DomainID: id, LocalPart: a.LocalPart, Account: n, Removed: true})
	return nil
}

func (d *Directory) addAlias(b *pebble.Batch, a *raftpb.AddAlias) error {
	id, err := d.domain(b, a.Domain)
	if err != nil {
		return err
	}
	if a.LocalPart == "" || len(a.Targets) == 0 {
		return syscall.EINVAL
	}
	if err := taken(b, id, a.LocalPart); err != nil {
		return err
	}
	return put(b, key(keyAlias, id, a.LocalPart), a)
}

func (d *Directory) removeAlias(b *pebble.Batch, a *raftpb.RemoveAlias) error {
	id, err := d.domain(b, a.Domain)
	if err != nil {
		return err
	}
	k := key(keyAlias, id, a.LocalPart)
	if _, err := get(b, k); err != nil {
		return err
	}
	return b.Delete(k, nil)
}
