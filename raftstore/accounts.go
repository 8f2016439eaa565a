package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/directory"
	"mailraft/raftstore/group"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// What the directory answers beside success; test with errors.Is.
var (
	ErrNoSuchDomain  = fmt.Errorf("no such domain: %w", syscall.ENOENT)
	ErrNoSuchAccount = fmt.Errorf("no such account: %w", syscall.ENOENT)
	ErrNoSuchAlias   = fmt.Errorf("no such alias: %w", syscall.ENOENT)
	ErrExists        = fmt.Errorf("exists already: %w", syscall.EEXIST)
	ErrAliased       = fmt.Errorf("aliases lead to the account: %w", syscall.EBUSY)
	ErrDomainInUse   = fmt.Errorf("domain still has accounts or aliases: %w", syscall.ENOTEMPTY)
	ErrAddress       = fmt.Errorf("not an address: %w", syscall.EINVAL)
)

// Domain is a mail domain served here.
type Domain = directory.Domain

// Alias is an address that stands for others.
type Alias struct {
	Address string
	Targets []string
}

// DirectoryEvent says what changed in the directory.
type DirectoryEvent = directory.Event

// Directory is the list of domains, accounts and aliases, read on this node and changed by consensus.
type Directory struct {
	store *Store
	group *group.Group
	state *directory.Directory

	shards     shardCache // of accounts that were asked for
	shardsLock sync.Mutex // held to change it by what was read
	moves      atomic.Uint64
	nextShard  atomic.Uint32 // counts the accounts made, to spread them
}

// ReadIndex returns nil once reading shows everything that any node acknowledged before the call.
func (d *Directory) ReadIndex(ctx context.Context) error { return d.group.ReadIndex(ctx) }

// Subscribe has fn called with each change, or that all was replaced (DirectoryEvent.Replaced), on the applying goroutine: fn must
// only take note. cancel ends it.
func (d *Directory) Subscribe(fn func(DirectoryEvent)) (cancel func()) { return d.state.Subscribe(fn) }

func (d *Directory) change(ctx context.Context, cmd *raftpb.Command) (uint64, error) {
	r, err := d.store.admin.proposeDirectory(ctx, cmd)
	if err == nil {
		err = r.Err()
	}
	return r.Value, err
}

// named turns the state machine's errno into the error of what it was about.
func named(err error, what string, notFound error) error {
	switch {
	case err == nil:
		return nil
	case err == syscall.ENOENT:
		return fmt.Errorf("%s: %w", what, notFound)
	case err == syscall.EEXIST:
		return fmt.Errorf("%s: %w", what, ErrExists)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// AddDomain adds a domain: ErrExists, ErrAddress.
func (d *Directory) AddDomain(ctx context.Context, name string) error {
	name = NormalDomain(name)
	if !validDomain(name) {
		return fmt.Errorf("domain %q: %w", name, ErrAddress)
	}
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: name}}})
	return named(err, "domain "+name, ErrNoSuchDomain)
}

// RemoveDomain removes a domain that has neither accounts nor aliases: ErrNoSuchDomain, ErrDomainInUse.
func (d *Directory) RemoveDomain(ctx context.Context, name string) error {
	name = NormalDomain(name)
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_RemoveDomain{RemoveDomain: &raftpb.RemoveDomain{Name: name}}})
	if err == syscall.ENOTEMPTY {
		err = ErrDomainInUse
	}
	return named(err, "domain "+name, ErrNoSuchDomain)
}

// Domains lists the domains by name.
func (d *Directory) Domains() ([]Domain, error) { return d.state.Domains() }

// Domain finds a domain: ErrNoSuchDomain.
func (d *Directory) Domain(name string) (Domain, error) {
	dom, err := d.state.Domain(name)
	return dom, named(err, "domain "+name, ErrNoSuchDomain)
}

// DomainByID finds a domain by its number: ErrNoSuchDomain.
func (d *Directory) DomainByID(id uint32) (Domain, error) {
	dom, err := d.state.DomainByID(id)
	return dom, named(err, fmt.Sprint("domain ", id), ErrNoSuchDomain)
}

// FindAccount finds an account whose tree is there: ErrNoSuchDomain, ErrNoSuchAccount.
func (d *Directory) FindAccount(localPart, domain string) (*raftpb.Account, error) {
	a, err := d.findAny(localPart, domain)
	if err == nil && a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		err = fmt.Errorf("account %s@%s: %w", localPart, domain, ErrNoSuchAccount)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (d *Directory) findAny(localPart, domain string) (*raftpb.Account, error) {
	dom, err := d.Domain(domain)
	if err != nil {
		return nil, err
	}
	a, err := d.state.FindAccount(localPart, dom.ID)
	return a, named(err, "account "+localPart+"@"+domain, ErrNoSuchAccount)
}

// Account finds an account by its number: ErrNoSuchAccount.
func (d *Directory) Account(n tree.Account) (*raftpb.Account, error) {
	a, err := d.state.Account(uint32(n))
	return a, named(err, fmt.Sprint("account ", n), ErrNoSuchAccount)
}

// Accounts lists at most limit accounts of the domain by local part, those behind after: ErrNoSuchDomain.
func (d *Directory) Accounts(domain, after string, limit int) ([]*raftpb.Account, error) {
	dom, err := d.Domain(domain)
	if err != nil {
		return nil, err
	}
	return d.state.Accounts(dom.ID, after, limit)
}

func (d *Directory) shardOf(n uint32) (uint32, error) {
	if id := d.shards.get(n); id != 0 {
		return id, nil
	}
	moves := d.moves.Load()
	a, err := d.state.Account(n)
	if err != nil {
		return 0, named(err, fmt.Sprint("account ", n), ErrNoSuchAccount)
	}
	if a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
		d.shardsLock.Lock()
		defer d.shardsLock.Unlock()
		if d.moves.Load() == moves { // else what was read may be older than what moved forgot
			d.shards.set(n, a.Shard)
		}
	}
	return a.Shard, nil
}

// moved takes note that an account is another shard's now; 0: any may be.
func (d *Directory) moved(n uint32) {
	d.shardsLock.Lock()
	defer d.shardsLock.Unlock()
	d.moves.Add(1)
	if n == 0 {
		d.shards.clear()
	} else {
		d.shards.set(n, 0)
	}
}

// NewAccount is an account to be made.
type NewAccount struct {
	LocalPart, Domain string
	QuotaBytes        uint64 // 0: none
	QuotaFiles        uint64 // 0: none
	// Keys makes the account's key pair: the public key, and the private key wrapped in slots that are bound to the account's
	// number.
	Keys func(number uint32) (recipient string, slots []*raftpb.Slot, err error)
	// Pinned is a public key of the owner's, to which messages are sealed in place of Keys'; "": none.
	Pinned string
}

// AddAccounts makes accounts: all of them, or none and ErrNoSuchDomain, ErrExists, ErrAddress. They take mail when it returns.
// They are spread over the shards.
func (d *Directory) AddAccounts(ctx context.Context, list []NewAccount) ([]*raftpb.Account, error) {
	for try := 1; ; try++ {
		made, err := d.addAccounts(ctx, list)
		// Who leads the directory from now on took them for cut short (finishAccounts): they are made anew.
		cut := errors.Is(err, syscall.ENOENT) && !errors.Is(err, ErrNoSuchDomain)
		if !cut || try == addTries {
			return made, err
		}
	}
}

// addTries is how often accounts are begun.
const addTries = 3

func (d *Directory) addAccounts(ctx context.Context, list []NewAccount) ([]*raftpb.Account, error) {
	if len(list) == 0 {
		return nil, nil
	}
	cmd := &raftpb.AddAccounts{}
	shards := uint32(len(d.store.shards))
	for _, n := range list {
		local, domain := normalLocalPart(n.LocalPart), NormalDomain(n.Domain)
		if !validLocalPart(local) || !validDomain(domain) {
			return nil, fmt.Errorf("account %s@%s: %w", n.LocalPart, n.Domain, ErrAddress)
		}
		if _, err := d.Domain(domain); err != nil {
			return nil, err
		}
		if err := d.free(local, domain); err != nil {
			return nil, err
		}
		cmd.Accounts = append(cmd.Accounts, &raftpb.Account{LocalPart: local, Domain: domain, Shard: d.nextShard.Add(1)%shards + 1, QuotaBytes: n.QuotaBytes, QuotaFiles: n.QuotaFiles})
	}
	first, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_AddAccounts{AddAccounts: cmd}})
	if err != nil {
		return nil, named(err, "accounts", ErrNoSuchDomain)
	}
	made := make([]*raftpb.Account, len(list))
	for i, a := range cmd.Accounts {
		a.Number = uint32(first) + uint32(i)
	}
	// They become active together, when nothing can fail any more: then mail may come for them, and it must not be taken back.
	err = each(len(list), func(i int) error {
		a, err := d.state.Account(cmd.Accounts[i].Number)
		if err != nil {
			return err
		}
		if list[i].Keys != nil {
			if a.Recipient, a.Slots, err = list[i].Keys(a.Number); err != nil {
				return err
			}
		}
		if list[i].Pinned != "" {
			a.Recipient, a.LoginRecipient = list[i].Pinned, a.Recipient
		}
		a.State = raftpb.AccountState_ACCOUNT_STATE_ACTIVE
		made[i] = a
		return d.makeTree(ctx, a)
	})
	whole := err == nil
	if whole {
		_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_UpdateAccounts{UpdateAccounts: &raftpb.UpdateAccounts{Accounts: made}}})
		err = named(err, "accounts", ErrNoSuchAccount)
	}
	if err != nil {
		// The caller's time may be what ran out; what was begun is taken back all the same, or else later (finishAccounts).
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if terr := d.takeBack(ctx, cmd.Accounts); !whole || !errors.Is(terr, errActive) {
			return nil, errors.Join(err, terr)
		}
	}
	for i, a := range made {
		if now, err := d.state.Account(a.Number); err == nil { // else somebody has removed it since
			made[i] = now
		}
	}
	return made, nil
}

// errActive says that accounts are active, against what was expected.
var errActive = errors.New("account is active")

// takeBack drops accounts that AddAccounts could not make: errActive when they are active after all, because it was just the answer
// that did not come.
func (d *Directory) takeBack(ctx context.Context, list []*raftpb.Account) error {
	return each(len(list), func(i int) error {
		creating := proto.CloneOf(list[i])
		creating.State, creating.Version = raftpb.AccountState_ACCOUNT_STATE_CREATING, 1
		switch err := d.drop(ctx, creating); {
		case errors.Is(err, errState), errors.Is(err, ErrNoSuchAccount):
			now, err := d.state.Account(creating.Number)
			if err == nil && now.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
				return errActive
			}
			// Somebody else removes it, or has done so, perhaps before its tree was made.
			return d.dropTree(ctx, creating)
		default:
			return err
		}
	})
}

// each calls fn with 0 to n-1, some at once, so that their commits share an fsync.
func each(n int, fn func(int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	turn := make(chan struct{}, 64)
	for i := range n {
		turn <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-turn }()
			if err := fn(i); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *Directory) free(local, domain string) error {
	if _, err := d.findAny(local, domain); err == nil {
		return fmt.Errorf("account %s@%s: %w", local, domain, ErrExists)
	}
	if _, err := d.alias(local, domain); err == nil {
		return fmt.Errorf("alias %s@%s: %w", local, domain, ErrExists)
	}
	return nil
}

// makeTree makes the account's tree in its shard.
func (d *Directory) makeTree(ctx context.Context, a *raftpb.Account) error {
	sh, err := d.store.shard(a)
	if err != nil {
		return err
	}
	r, err := d.store.admin.ProposeIn(ctx, sh, &raftpb.Command{Op: &raftpb.Command_CreateAccount{CreateAccount: &raftpb.CreateAccount{
		Account: a.Number, Uid: d.store.cfg.UID, Gid: d.store.cfg.GID, QuotaBytes: a.QuotaBytes, QuotaFiles: a.QuotaFiles,
	}}})
	if err == nil {
		err = r.Err()
	}
	return err
}

func (d *Directory) put(ctx context.Context, a *raftpb.Account) error {
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_UpdateAccount{UpdateAccount: &raftpb.UpdateAccount{Account: a}}})
	return err
}

// UpdateAccount changes the account's record by fn, which may be called again when somebody else changed it meanwhile:
// ErrNoSuchAccount, also for one that is being removed.
func (d *Directory) UpdateAccount(ctx context.Context, n tree.Account, fn func(*raftpb.Account) error) error {
	for {
		a, err := d.Account(n)
		if err != nil {
			return err
		}
		if a.State == raftpb.AccountState_ACCOUNT_STATE_REMOVING {
			return fmt.Errorf("account %d: %w", n, ErrNoSuchAccount)
		}
		if err := fn(a); err != nil {
			return err
		}
		err = d.put(ctx, a)
		if err != syscall.EAGAIN {
			return named(err, fmt.Sprint("account ", n), ErrNoSuchAccount)
		}
	}
}

// RemoveAccount removes the account with all its mail: ErrNoSuchDomain, ErrNoSuchAccount; ErrAliased while aliases lead to it, which
// would lead nowhere, or to whoever has the address next.
func (d *Directory) RemoveAccount(ctx context.Context, localPart, domain string) error {
	if err := d.unaliased(normalLocalPart(localPart) + "@" + NormalDomain(domain)); err != nil {
		return err
	}
	for {
		a, err := d.findAny(normalLocalPart(localPart), NormalDomain(domain))
		if err != nil {
			return err
		}
		if err := d.drop(ctx, a); !errors.Is(err, errState) {
			return err
		}
	}
}

// unaliased makes sure that no alias stands for the address: ErrAliased, with the first few that do.
func (d *Directory) unaliased(address string) error {
	domains, err := d.Domains()
	if err != nil {
		return err
	}
	var found []string
	for _, dom := range domains {
		aliases, err := d.Aliases(dom.Name)
		if err != nil {
			return err
		}
		for _, a := range aliases {
			if slices.ContainsFunc(a.Targets, func(to string) bool { return leadsTo(to, address) }) {
				found = append(found, a.Address)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	const most = 5
	if len(found) > most {
		found = append(found[:most], "...")
	}
	return fmt.Errorf("%s: %w", strings.Join(found, ", "), ErrAliased)
}

// leadsTo tells whether an alias's target is the address, or a plus-address of it.
func leadsTo(target, address string) bool {
	local, domain, _ := strings.Cut(target, "@")
	return target == address || withoutDetail(local)+"@"+domain == address
}

// errState says that an account is in another state than it was when its record was read.
var errState = fmt.Errorf("account has changed: %w", syscall.EAGAIN)

// drop ends an account in three steps, each of which finishAccounts takes up after a crash: errState when it is not in the state of a
// any more, or one that is not whole has changed. What was restored since, under the same number, stays.
func (d *Directory) drop(ctx context.Context, a *raftpb.Account) error {
	removing := a
	if a.State != raftpb.AccountState_ACCOUNT_STATE_REMOVING {
		err := d.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
			if now.State != a.State || a.State != raftpb.AccountState_ACCOUNT_STATE_ACTIVE && now.Version != a.Version {
				return errState
			}
			now.State = raftpb.AccountState_ACCOUNT_STATE_REMOVING
			removing = now
			return nil
		})
		if err != nil {
			return err
		}
		removing.Version++ // as its change has made it
	}
	if err := d.dropTree(ctx, removing); err != nil {
		return err
	}
	c := &raftpb.DropAccount{Number: a.Number}
	if d.store.Knows(machine.NamesLives) {
		c.Version = removing.Version
	}
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_DropAccount{DropAccount: c}})
	d.shards.set(a.Number, 0)
	if err == syscall.ENOENT || err == syscall.EAGAIN { // somebody else did it meanwhile, and it may be back
		err = nil
	}
	return err
}

// shardsOf are those that may have the account's tree: its own, and of one that moves the other; 0: none.
func shardsOf(a *raftpb.Account) [3]uint32 { return [3]uint32{a.Shard, a.MovingTo, a.MovedFrom} }

// dropTree has the account's shard forget its mail; of one that moves, both shards.
func (d *Directory) dropTree(ctx context.Context, a *raftpb.Account) error {
	c := &raftpb.RemoveAccount{Account: a.Number}
	if d.store.Knows(machine.NamesLives) {
		c.Until = a.Version // its moves had lesser numbers, a restore since has a greater one
	}
	for _, id := range shardsOf(a) {
		if id == 0 {
			continue
		}
		if err := d.dropFrom(ctx, id, c); err != nil {
			return err
		}
	}
	return nil
}

// dropMoved has a shard forget what a move has left frozen there, or has not brought to its end.
func (d *Directory) dropMoved(ctx context.Context, account, shard uint32, move uint64) error {
	return d.dropFrom(ctx, shard, &raftpb.RemoveAccount{Account: account, Move: move})
}

// dropFrom has a shard forget an account's mail, if that is there.
func (d *Directory) dropFrom(ctx context.Context, shard uint32, c *raftpb.RemoveAccount) error {
	sh, err := d.store.shardNumber(shard)
	if err != nil {
		return err
	}
	r, err := d.store.admin.ProposeIn(ctx, sh, &raftpb.Command{Op: &raftpb.Command_RemoveAccount{RemoveAccount: c}})
	if err == nil && r.Errno != syscall.ENOENT && r.Errno != syscall.ESTALE {
		err = r.Err()
	}
	return err
}

// finishAccounts drops the accounts whose making or removing a crash cut short: neither has taken mail, or may any more. The node that
// leads the directory does it, when it begins to: an account that another is just making is not made then, and that one is told.
// Nobody's mail waits for it, so what can't be finished is for the next leader.
func (s *Store) finishAccounts(ctx context.Context) {
	unfinished, err := s.directory.state.UnfinishedAccounts()
	for _, a := range unfinished {
		if a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE {
			continue // it moves, or is sealed anew
		}
		s.log.Info("dropping an account that is not whole", "account", a.Address())
		// It may have been finished, or be gone, since it was read.
		if derr := s.directory.drop(ctx, a); !errors.Is(derr, errState) && !errors.Is(derr, ErrNoSuchAccount) {
			err = errors.Join(err, derr)
		}
	}
	if err != nil {
		s.log.Error("accounts that are not whole stay", "error", err)
	}
}

// finishAccountsAgain does so whenever this node begins to lead the directory in another term than the one given.
func (s *Store) finishAccountsAgain(ctx context.Context, term uint64) {
	defer s.done.Done()
	for {
		var err error
		if term, err = s.directory.group.WaitTerm(ctx, term); err != nil {
			return // the store is being closed, or the replica is broken
		}
		s.finishAccounts(ctx)
	}
}

// SetQuota sets an account's limits; 0 is none: ErrNoSuchAccount.
func (d *Directory) SetQuota(ctx context.Context, n tree.Account, bytes, files uint64) error {
	r, err := d.store.admin.Propose(ctx, &raftpb.Command{Op: &raftpb.Command_SetQuota{SetQuota: &raftpb.SetQuota{Account: uint32(n), Bytes: bytes, Files: files}}})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return err
	}
	return d.UpdateAccount(ctx, n, func(a *raftpb.Account) error {
		a.QuotaBytes, a.QuotaFiles = bytes, files
		return nil
	})
}

// Usage reads the account's counters and limits: ErrNoSuchAccount.
func (d *Directory) Usage(n tree.Account) (*tree.AccountRecord, error) {
	return d.store.Home(n).View().Account(n)
}

// AddAlias makes address stand for the targets, which are addresses here: ErrExists, ErrNoSuchDomain, ErrNoSuchAccount for a
// target that does not resolve, ErrAddress.
func (d *Directory) AddAlias(ctx context.Context, address string, targets []string) error {
	local, domain, err := SplitAddress(address)
	if err != nil {
		return err
	}
	if err := d.free(local, domain); err != nil {
		return err
	}
	cmd := &raftpb.AddAlias{LocalPart: local, Domain: domain}
	for _, t := range targets {
		if _, _, err := d.Resolve(t); err != nil {
			return fmt.Errorf("target of alias %s: %w", address, err)
		}
		local, domain, err := SplitAddress(t)
		if err != nil {
			return err
		}
		cmd.Targets = append(cmd.Targets, local+"@"+domain)
	}
	_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_AddAlias{AddAlias: cmd}})
	return named(err, "alias "+address, ErrNoSuchDomain)
}

// RemoveAlias removes an alias: ErrNoSuchAlias.
func (d *Directory) RemoveAlias(ctx context.Context, address string) error {
	local, domain, err := SplitAddress(address)
	if err != nil {
		return err
	}
	_, err = d.change(ctx, &raftpb.Command{Op: &raftpb.Command_RemoveAlias{RemoveAlias: &raftpb.RemoveAlias{LocalPart: local, Domain: domain}}})
	return named(err, "alias "+address, ErrNoSuchAlias)
}

// Aliases lists the aliases of a domain: ErrNoSuchDomain.
func (d *Directory) Aliases(domain string) ([]Alias, error) {
	dom, err := d.Domain(domain)
	if err != nil {
		return nil, err
	}
	records, err := d.state.Aliases(dom.ID)
	var list []Alias
	for _, a := range records {
		list = append(list, Alias{a.LocalPart + "@" + a.Domain, a.Targets})
	}
	return list, err
}

func (d *Directory) alias(local, domain string) (*raftpb.AddAlias, error) {
	dom, err := d.Domain(domain)
	if err != nil {
		return nil, err
	}
	return d.state.Alias(local, dom.ID)
}

// maxAliases bounds what one address may stand for.
const maxAliases = 1000

// Resolve finds the accounts that an address delivers to: its own, that without the detail behind a "+", or through aliases
// those that it stands for, each once. detail is what stood behind the "+" of an account's own address. ErrAddress,
// ErrNoSuchDomain, ErrNoSuchAccount.
func (d *Directory) Resolve(address string) (list []*raftpb.Account, detail string, err error) {
	local, domain, err := SplitAddress(address)
	if err != nil {
		return nil, "", err
	}
	if _, err := d.Domain(domain); err != nil {
		return nil, "", err
	}
	a, detail, err := d.resolveOwn(local, domain)
	if err != nil {
		return nil, "", err
	}
	if a != nil {
		return []*raftpb.Account{a}, detail, nil
	}
	seen := map[string]bool{}
	found := map[uint32]bool{}
	queue := []string{local + "@" + domain}
	for len(queue) > 0 && len(seen) < maxAliases {
		next := queue[0]
		queue = queue[1:]
		if seen[next] {
			continue
		}
		seen[next] = true
		local, domain, err := SplitAddress(next)
		if err != nil {
			continue
		}
		a, _, err := d.resolveOwn(local, domain)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return nil, "", err
		}
		if a != nil {
			if !found[a.Number] {
				found[a.Number] = true
				list = append(list, a)
			}
			continue
		}
		for _, name := range []string{local, withoutDetail(local)} {
			al, err := d.alias(name, domain)
			if err == nil {
				queue = append(queue, al.Targets...)
				break
			}
			if !errors.Is(err, syscall.ENOENT) {
				return nil, "", err
			}
		}
	}
	if len(queue) > 0 {
		return nil, "", fmt.Errorf("%s@%s stands for more than %d addresses: %w", local, domain, maxAliases, syscall.EIO)
	}
	if len(list) == 0 {
		return nil, "", fmt.Errorf("%s@%s: %w", local, domain, ErrNoSuchAccount)
	}
	return list, "", nil
}

func withoutDetail(local string) string {
	name, _, _ := strings.Cut(local, "+")
	return name
}

// resolveOwn finds the account of that name, or of the name before the "+"; nil when there is none.
func (d *Directory) resolveOwn(local, domain string) (*raftpb.Account, string, error) {
	a, err := d.FindAccount(local, domain)
	if err == nil {
		return a, "", nil
	}
	if name, detail, ok := strings.Cut(local, "+"); ok && name != "" && errors.Is(err, ErrNoSuchAccount) {
		if a, err = d.FindAccount(name, domain); err == nil {
			return a, detail, nil
		}
	}
	if errors.Is(err, ErrNoSuchAccount) || errors.Is(err, ErrNoSuchDomain) {
		return nil, "", nil
	}
	return nil, "", err
}

// NormalDomain returns the form in which a domain is kept here: A-labels (RFC 5890, 2.3.2.1), in lower case. What can be no domain stays
// without them, and is none.
func NormalDomain(name string) string {
	if utf8.ValidString(name) && strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if ascii, err := idna.Lookup.ToASCII(name); err == nil {
			return ascii
		}
	}
	return strings.ToLower(name)
}

// normalLocalPart returns the form in which a local part is kept here: lower case, composed (RFC 6532, 3.1), for the same characters
// can be written in several ways.
func normalLocalPart(s string) string { return norm.NFC.String(strings.ToLower(s)) }

// SplitAddress takes an address apart, into the forms in which its parts are kept: ErrAddress.
func SplitAddress(address string) (local, domain string, err error) {
	i := strings.LastIndexByte(address, '@')
	if i > 0 {
		local, domain = normalLocalPart(address[:i]), NormalDomain(strings.TrimSuffix(address[i+1:], "."))
	}
	if !validLocalPart(local) || !validDomain(domain) {
		return "", "", fmt.Errorf("%q: %w", address, ErrAddress)
	}
	return local, domain, nil
}

// validLocalPart tells whether the local part can be an account here, where it is the name of a directory: RFC 5321's
// Dot-string, or RFC 6531's, of at most 64 octets.
func validLocalPart(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`/\"(),:;<>@[]`, r)
	})
}

// validDomain tells whether the name is a domain of A-labels, or others in ASCII (RFC 5321, 2.3.5).
func validDomain(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// reapOrphans drops, now and then, the pieces of large contents whose delivery never came to its end.
func (s *Store) reapOrphans(ctx context.Context) {
	defer s.done.Done()
	const age, every, limit = 24 * time.Hour, 10 * time.Minute, 100 // a delivery may wait long between close and link
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for i := 0; i < len(s.shards); i++ {
			sh := s.shards[i]
			if !sh.leads() {
				continue // the node that leads it does
			}
			r, err := s.admin.ProposeIn(ctx, sh, &raftpb.Command{Op: &raftpb.Command_ReapOrphans{ReapOrphans: &raftpb.ReapOrphans{
				Before: time.Now().Add(-age).UnixNano(), Limit: limit,
			}}})
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				s.log.Warn("dropping contents that nobody names", "shard", sh.id, "error", err)
			case r.Value > 0:
				s.log.Info("dropped contents that nobody names", "shard", sh.id, "contents", r.Value)
				i-- // there may be more
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
