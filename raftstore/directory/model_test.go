package directory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"

	"mailraft/raftstore/raftpb"
)

// model is the directory as plainly as it can be said. Apply must do what it does.
type model struct {
	domains                 map[string]uint32
	accounts                map[uint32]*raftpb.Account
	aliases                 map[address]*raftpb.AddAlias
	shards                  map[uint32]*raftpb.PutShard
	nodes                   map[string]*raftpb.PutNode
	tokens                  map[string]*raftpb.AddToken
	cluster                 *raftpb.PutCluster
	secret                  *raftpb.PutSecret
	failures                map[string]*raftpb.NoteFailures
	lastAccount, lastDomain uint32
}

type address struct{ local, domain string }

func newModel() *model {
	return &model{
		domains: map[string]uint32{}, accounts: map[uint32]*raftpb.Account{}, aliases: map[address]*raftpb.AddAlias{},
		shards: map[uint32]*raftpb.PutShard{}, nodes: map[string]*raftpb.PutNode{}, tokens: map[string]*raftpb.AddToken{},
		failures: map[string]*raftpb.NoteFailures{},
	}
}

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }

// apply does the command, or nothing when it gives an errno.
func (m *model) apply(cmd *raftpb.Command) (uint64, syscall.Errno) {
	switch op := cmd.Op.(type) {
	case *raftpb.Command_AddDomain:
		name := op.AddDomain.Name
		switch {
		case !isName(name):
			return 0, syscall.EINVAL
		case m.domains[name] != 0:
			return 0, syscall.EEXIST
		}
		m.lastDomain++
		m.domains[name] = m.lastDomain
	case *raftpb.Command_RemoveDomain:
		name := op.RemoveDomain.Name
		switch {
		case m.domains[name] == 0:
			return 0, syscall.ENOENT
		case len(m.in(name)) > 0 || len(m.aliasesIn(name)) > 0:
			return 0, syscall.ENOTEMPTY
		}
		delete(m.domains, name)
	case *raftpb.Command_AddAccounts:
		return m.addAccounts(op.AddAccounts.Accounts, cmd.Now)
	case *raftpb.Command_UpdateAccount:
		a := op.UpdateAccount.Account
		old := m.accounts[a.GetNumber()]
		switch {
		case old == nil:
			return 0, syscall.ENOENT
		case old.Version != a.Version:
			return 0, syscall.EAGAIN
		case old.LocalPart != a.LocalPart || old.Domain != a.Domain:
			return 0, syscall.EINVAL
		}
		m.accounts[a.Number] = clone(a)
		m.accounts[a.Number].Version++
	case *raftpb.Command_DropAccount:
		if m.accounts[op.DropAccount.Number] == nil {
			return 0, syscall.ENOENT
		}
		delete(m.accounts, op.DropAccount.Number)
	case *raftpb.Command_AddAlias:
		a := op.AddAlias
		switch {
		case m.domains[a.Domain] == 0:
			return 0, syscall.ENOENT
		case a.LocalPart == "" || len(a.Targets) == 0:
			return 0, syscall.EINVAL
		case m.taken(address{a.LocalPart, a.Domain}):
			return 0, syscall.EEXIST
		}
		m.aliases[address{a.LocalPart, a.Domain}] = clone(a)
	case *raftpb.Command_RemoveAlias:
		at := address{op.RemoveAlias.LocalPart, op.RemoveAlias.Domain}
		if m.aliases[at] == nil {
			return 0, syscall.ENOENT
		}
		delete(m.aliases, at)
	case *raftpb.Command_PutShard:
		s := clone(op.PutShard)
		switch {
		case s.Id == 0:
			return 0, syscall.EINVAL
		case m.shards[s.Id].GetVersion() != s.Version:
			return 0, syscall.EAGAIN
		}
		s.Version++
		m.shards[s.Id] = s
	case *raftpb.Command_PutNode:
		n := clone(op.PutNode)
		switch {
		case !isName(n.Id):
			return 0, syscall.EINVAL
		case m.nodes[n.Id].GetVersion() != n.Version:
			return 0, syscall.EAGAIN
		}
		n.Version++
		m.nodes[n.Id] = n
	case *raftpb.Command_PutCluster:
		if m.cluster != nil {
			return 0, syscall.EEXIST
		}
		m.cluster = clone(op.PutCluster)
	case *raftpb.Command_PutSecret:
		switch {
		case len(op.PutSecret.Value) != 32:
			return 0, syscall.EINVAL
		case m.secret != nil:
			return 0, syscall.EEXIST
		}
		m.secret = clone(op.PutSecret)
	case *raftpb.Command_NoteFailures:
		f := op.NoteFailures
		if len(f.Key) != 16 || f.Until <= cmd.Now {
			return 0, syscall.EINVAL
		}
		maps.DeleteFunc(m.failures, func(_ string, old *raftpb.NoteFailures) bool { return old.Until <= cmd.Now })
		m.failures[string(f.Key)] = clone(f)
	case *raftpb.Command_AddToken:
		t := op.AddToken
		switch {
		case len(t.Id) == 0 || len(t.Hash) != 32:
			return 0, syscall.EINVAL
		case m.tokens[string(t.Id)] != nil:
			return 0, syscall.EEXIST
		}
		maps.DeleteFunc(m.tokens, func(_ string, old *raftpb.AddToken) bool { return old.Expires <= cmd.Now })
		m.tokens[string(t.Id)] = clone(t)
	case *raftpb.Command_UseToken:
		return 0, m.useToken(op.UseToken, cmd.Now)
	default:
		return 0, syscall.EOPNOTSUPP
	}
	return 0, 0
}

func (m *model) useToken(u *raftpb.UseToken, now int64) syscall.Errno {
	t, old := m.tokens[string(u.Id)], m.nodes[u.GetNode().GetId()]
	switch {
	case t == nil:
		return syscall.ENOENT
	case t.Expires <= now:
		return syscall.ETIME
	case old != nil && old.State != raftpb.NodeState_NODE_STATE_REMOVED:
		return syscall.EEXIST
	case !isName(u.GetNode().GetId()):
		return syscall.EINVAL
	}
	n := clone(u.Node)
	n.Version, n.Joined = old.GetVersion()+1, now
	m.nodes[n.Id] = n
	delete(m.tokens, string(u.Id))
	return 0
}

func isName(s string) bool {
	return s != "" && !strings.Contains(s, "/") && !strings.Contains(s, "\x00")
}

func (m *model) taken(at address) bool {
	return m.aliases[at] != nil || slices.ContainsFunc(m.in(at.domain), func(a *raftpb.Account) bool { return a.LocalPart == at.local })
}

func (m *model) addAccounts(list []*raftpb.Account, now int64) (uint64, syscall.Errno) {
	seen := map[address]bool{}
	for _, a := range list {
		at := address{a.LocalPart, a.Domain}
		switch {
		case m.domains[a.Domain] == 0:
			return 0, syscall.ENOENT
		case !isName(a.LocalPart):
			return 0, syscall.EINVAL
		case seen[at] || m.taken(at):
			return 0, syscall.EEXIST
		}
		seen[at] = true
	}
	first := uint64(m.lastAccount) + 1
	for _, a := range list {
		m.lastAccount++
		a := clone(a)
		a.Number, a.State, a.Version, a.Created = m.lastAccount, raftpb.AccountState_ACCOUNT_STATE_CREATING, 1, now
		m.accounts[a.Number] = a
	}
	return first, 0
}

// in lists the accounts of a domain by local part.
func (m *model) in(domain string) []*raftpb.Account {
	var list []*raftpb.Account
	for _, a := range m.accounts {
		if a.Domain == domain {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *raftpb.Account) int { return cmp.Compare(a.LocalPart, b.LocalPart) })
	return list
}

// aliasesIn lists the aliases of a domain by local part.
func (m *model) aliasesIn(domain string) []*raftpb.AddAlias {
	var list []*raftpb.AddAlias
	for _, a := range m.aliases {
		if a.Domain == domain {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *raftpb.AddAlias) int { return cmp.Compare(a.LocalPart, b.LocalPart) })
	return list
}

func sorted[K cmp.Ordered, V any](m map[K]V) (list []V) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}
