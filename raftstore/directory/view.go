package directory

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// Domain is a mail domain served here.
type Domain struct {
	ID   uint32 // never used again
	Name string
}

// Domains lists the domains by name.
func (d *Directory) Domains() ([]Domain, error) {
	var list []Domain
	err := d.scan([]byte{keyDomain}, []byte{keyDomain + 1}, func(k, v []byte) (bool, error) {
		id, err := decodeNumber(v)
		list = append(list, Domain{id, string(k[1:])})
		return true, err
	})
	return list, err
}

// Domain finds a domain by its name: ENOENT.
func (d *Directory) Domain(name string) (Domain, error) {
	h := d.store.Acquire()
	defer h.Release()
	id, err := d.domain(h, name)
	return Domain{id, name}, err
}

// DomainByID finds a domain by its number: ENOENT.
func (d *Directory) DomainByID(id uint32) (Domain, error) {
	h := d.store.Acquire()
	defer h.Release()
	v, err := get(h, key(keyDomainName, id, ""))
	return Domain{id, string(v)}, err
}

// Account finds an account by its number: ENOENT.
func (d *Directory) Account(n uint32) (*raftpb.Account, error) {
	h := d.store.Acquire()
	defer h.Release()
	return account(h, n)
}

// FindAccount finds an account by its name, both parts in lower case: ENOENT.
func (d *Directory) FindAccount(localPart string, dom uint32) (*raftpb.Account, error) {
	h := d.store.Acquire()
	defer h.Release()
	v, err := get(h, key(keyName, dom, localPart))
	if err != nil {
		return nil, err
	}
	n, err := decodeNumber(v)
	if err != nil {
		return nil, err
	}
	return account(h, n)
}

// Accounts lists at most limit accounts of a domain by local part, those behind after.
func (d *Directory) Accounts(dom uint32, after string, limit int) ([]*raftpb.Account, error) {
	h := d.store.Acquire()
	defer h.Release()
	var list []*raftpb.Account
	from := key(keyName, dom, after)
	if after != "" {
		from = append(from, 0)
	}
	err := scan(h, from, key(keyName, dom+1, ""), func(k, v []byte) (bool, error) {
		n, err := decodeNumber(v)
		if err != nil {
			return false, err
		}
		a, err := account(h, n)
		if err == nil {
			list = append(list, a)
		}
		return len(list) < limit, err
	})
	return list, err
}

// AllAccounts calls fn with every account by number, until it answers false.
func (d *Directory) AllAccounts(fn func(*raftpb.Account) bool) error {
	return d.scan([]byte{keyAccount}, []byte{keyAccount + 1}, func(k, v []byte) (bool, error) {
		n, err := decodeNumber(k[1:])
		if err != nil {
			return false, err
		}
		a, err := decodeAccount(n, v)
		return err == nil && fn(a), err
	})
}

// UnfinishedAccounts lists the accounts that are being made, removed, moved or sealed anew, by number.
func (d *Directory) UnfinishedAccounts() (all []*raftpb.Account, err error) {
	h := d.store.Acquire()
	defer h.Release()
	err = scan(h, []byte{keyUnfinished}, []byte{keyUnfinished + 1}, func(k, _ []byte) (bool, error) {
		n, err := decodeNumber(k[1:])
		if err != nil {
			return false, err
		}
		a, err := account(h, n)
		if err == syscall.ENOENT { // it has been dropped since
			return true, nil
		}
		all = append(all, a)
		return true, err
	})
	return all, err
}

// NotedUnfinished tells whether the account is noted as one that IsUnfinished.
func (d *Directory) NotedUnfinished(n uint32) (bool, error) {
	h := d.store.Acquire()
	defer h.Release()
	err := absent(h, key(keyUnfinished, n, ""))
	if err == syscall.EEXIST {
		return true, nil
	}
	return false, err
}

// Alias finds an alias: ENOENT.
func (d *Directory) Alias(localPart string, dom uint32) (*raftpb.AddAlias, error) {
	h := d.store.Acquire()
	defer h.Release()
	v, err := get(h, key(keyAlias, dom, localPart))
	if err != nil {
		return nil, err
	}
	a := new(raftpb.AddAlias)
	return a, decode(v, a)
}

// Aliases lists the aliases of a domain by local part.
func (d *Directory) Aliases(dom uint32) ([]*raftpb.AddAlias, error) {
	return list(d, key(keyAlias, dom, ""), key(keyAlias, dom+1, ""), func() *raftpb.AddAlias { return new(raftpb.AddAlias) })
}

// Shards lists the mail shards by number.
func (d *Directory) Shards() ([]*raftpb.PutShard, error) {
	return list(d, []byte{keyShard}, []byte{keyShard + 1}, func() *raftpb.PutShard { return new(raftpb.PutShard) })
}

// Shard finds a mail shard by its number: ENOENT.
func (d *Directory) Shard(id uint32) (*raftpb.PutShard, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, key(keyShard, id, ""), new(raftpb.PutShard))
}

// Nodes lists the nodes by name, also those that were removed.
func (d *Directory) Nodes() ([]*raftpb.PutNode, error) {
	return list(d, []byte{keyNode}, []byte{keyNode + 1}, func() *raftpb.PutNode { return new(raftpb.PutNode) })
}

// Node finds a node by its name: ENOENT.
func (d *Directory) Node(id string) (*raftpb.PutNode, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, nameKey(keyNode, id), new(raftpb.PutNode))
}

// Version is the newest version of commands that may be proposed: every node can apply them.
func (d *Directory) Version() (uint32, error) {
	h := d.store.Acquire()
	defer h.Release()
	v, err := record(h, []byte{keyVersion}, new(raftpb.RaiseVersion))
	if err == syscall.ENOENT {
		return 1, nil
	}
	return v.GetVersion(), err
}

// Cluster reads the cluster's name and certificate authority: ENOENT.
func (d *Directory) Cluster() (*raftpb.PutCluster, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, []byte{keyCluster}, new(raftpb.PutCluster))
}

// Secret reads what others are derived of: ENOENT.
func (d *Directory) Secret() (*raftpb.PutSecret, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, []byte{keySecret}, new(raftpb.PutSecret))
}

// Failures reads a note of failed logins, which may be over: ENOENT.
func (d *Directory) Failures(key []byte) (*raftpb.NoteFailures, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, nameKey(keyFailures, string(key)), new(raftpb.NoteFailures))
}

// Token finds a join token: ENOENT.
func (d *Directory) Token(id []byte) (*raftpb.AddToken, error) {
	h := d.store.Acquire()
	defer h.Release()
	return record(h, nameKey(keyToken, string(id)), new(raftpb.AddToken))
}

// list reads the records in a range of keys, each into what empty makes.
func list[M proto.Message](d *Directory, from, to []byte, empty func() M) (all []M, err error) {
	err = d.scan(from, to, func(_, v []byte) (bool, error) {
		m := empty()
		all = append(all, m)
		return true, decode(v, m)
	})
	return all, err
}

func (d *Directory) scan(from, to []byte, fn func(k, v []byte) (bool, error)) error {
	h := d.store.Acquire()
	defer h.Release()
	return scan(h, from, to, fn)
}

func scan(r pebble.Reader, from, to []byte, fn func(k, v []byte) (bool, error)) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if more, err := fn(it.Key(), v); err != nil || !more {
			return err
		}
	}
	return it.Error()
}
