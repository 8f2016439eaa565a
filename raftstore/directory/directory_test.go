package directory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// fataler is what a test and a property have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// replica is a directory over a store in memory.
type replica struct {
	t      fataler
	dir    *Directory
	db     *pebble.DB
	store  *machine.Store
	batch  *pebble.Batch
	events []Event
}

func newReplica(t fataler) *replica {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{
		FS: vfs.NewMem(), DisableWAL: true, MemTableSize: 1 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{},
	})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	r := &replica{t: t, db: db, store: machine.NewStore(db)}
	r.dir = New(r.store)
	r.dir.Subscribe(func(ev Event) { r.events = append(r.events, ev) })
	return r
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// apply applies one command to the open batch. One that fails must not add to it, nor be an event.
func (r *replica) apply(index uint64, cmd *raftpb.Command) machine.Result {
	r.t.Helper()
	if r.batch == nil {
		r.batch = r.db.NewIndexedBatch()
	}
	count, size, events := r.batch.Count(), r.batch.Len(), len(r.dir.events)
	res, err := r.dir.Apply(r.batch, index, cmd)
	if err != nil {
		r.t.Fatalf("apply %v: %v", cmd, err)
	}
	if res.Errno != 0 && (r.batch.Count() != count || r.batch.Len() != size || res.Value != 0 || len(r.dir.events) != events) {
		r.t.Fatalf("%v failed (%v) and wrote, or answered %d, or was an event", cmd, res.Errno, res.Value)
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
	if err := errors.Join(r.batch.Commit(pebble.NoSync), r.batch.Close()); err != nil {
		r.t.Fatalf("commit: %v", err)
	}
	r.batch = nil
	r.dir.Committed()
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
func (r *replica) dump() (all [][2]string) {
	r.t.Helper()
	err := r.dir.scan([]byte{0}, []byte{0xff}, func(k, v []byte) (bool, error) {
		all = append(all, [2]string{string(k), string(v)})
		return true, nil
	})
	if err != nil {
		r.t.Fatalf("iterate: %v", err)
	}
	return all
}

// TestModel applies random commands to the directory and the model, several in a batch as package group does, and compares every
// answer, and the whole state now and then. In the end a second replica gets the same commands in other batches: its store must
// be the same to the octet.
func TestModel(t *testing.T) { rapid.Check(t, compareWithModel) }

func compareWithModel(t *rapid.T) {
	m := newModel()
	r := newReplica(t)
	defer r.close()
	shown := map[string]bool{} // what a follower of events knows: domains, and the addresses of active accounts
	var log []logged
	index := uint64(1)

	batch := func(t *rapid.T) {
		for range rapid.IntRange(1, 12).Draw(t, "batch") {
			cmd := nextCommand(t, m)
			octets, err := proto.Marshal(cmd)
			if err != nil {
				t.Fatalf("marshal: %v", err)
			}
			index += rapid.Uint64Range(1, 2).Draw(t, "index")
			log = append(log, logged{index, octets})
			v, errno := m.apply(cmd)
			if got := r.apply(index, cmd); got.Errno != errno || got.Value != v {
				t.Fatalf("command %d: %v\nanswers %v %d, the model %v %d", len(log), cmd, got.Errno, got.Value, errno, v)
			}
			proto.Reset(cmd) // nothing may hold on to it
		}
		r.commit()
		for _, ev := range r.events {
			if ev.Cluster {
				continue // nothing that a mount shows
			}
			if err := see(shown, ev); err != nil {
				t.Fatalf("%v: %+v", err, ev)
			}
		}
		r.events = nil
	}
	compare := func(t *rapid.T) { compareState(t, r.dir, m, shown) }
	t.Repeat(map[string]func(*rapid.T){"apply a batch": batch, "apply one more": batch, "and one more": batch, "compare": compare})
	compare(t)
	compareReplicas(t, r, log)
}

// see has a follower of events learn of one.
func see(shown map[string]bool, ev Event) error {
	name := ev.Domain
	if ev.LocalPart != "" {
		name = ev.LocalPart + "@" + ev.Domain
	}
	if ev.Session != 7 || ev.DomainID == 0 || (ev.Account == 0) != (ev.LocalPart == "") {
		return errors.New("an event of nothing")
	}
	switch {
	case ev.Added && (shown[name] || ev.Removed):
		return errors.New("added twice")
	case ev.Added:
		shown[name] = true
	case ev.Removed:
		delete(shown, name)
	}
	return nil
}

// logged is a command as the Raft log has it.
type logged struct {
	index  uint64
	octets []byte
}

// compareReplicas replays the log and compares the stores.
func compareReplicas(t *rapid.T, first *replica, log []logged) {
	r := newReplica(t)
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

var (
	someDomains = []string{"a.example", "a.example", "b.example", "b.exampl", "c"}
	someKeys    = []string{"0123456789abcdef", "another of 16 oc"}
	someLocals  = []string{"alice", "al", "alice2", "bob", "z"}
	badNames    = []string{"", "a/b", "a\x00"}
)

// nextCommand draws a command that is likely to mean something in the state of the model: few domains, few names.
func nextCommand(t *rapid.T, m *model) *raftpb.Command {
	cmd := &raftpb.Command{Version: 1, Now: rapid.Int64().Draw(t, "now"), Request: &raftpb.Request{Session: 7}}
	one := func(from []string) string {
		if rapid.IntRange(0, 30).Draw(t, "bad") == 17 {
			return rapid.SampledFrom(badNames).Draw(t, "bad name")
		}
		return rapid.SampledFrom(from).Draw(t, "name")
	}
	number := rapid.Uint32Range(0, m.lastAccount+1).Draw(t, "account")
	if numbers := slices.Sorted(maps.Keys(m.accounts)); len(numbers) > 0 && rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		number = rapid.SampledFrom(numbers).Draw(t, "known account")
	}
	stale := func() uint64 { return rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 1}).Draw(t, "stale") }
	node := func() *raftpb.PutNode {
		return &raftpb.PutNode{
			Id: one(someLocals), Address: rapid.String().Draw(t, "address"), State: raftpb.NodeState(rapid.Int32Range(1, 3).Draw(t, "node state")),
		}
	}
	token := func() []byte { return []byte(rapid.SampledFrom([]string{"", "t1", "t1", "t2", "t2"}).Draw(t, "token")) }
	switch rapid.IntRange(0, 21).Draw(t, "command") {
	case 0, 1:
		cmd.Op = &raftpb.Command_AddDomain{AddDomain: &raftpb.AddDomain{Name: one(someDomains)}}
	case 2:
		cmd.Op = &raftpb.Command_RemoveDomain{RemoveDomain: &raftpb.RemoveDomain{Name: one(someDomains)}}
	case 3, 4, 5:
		list := make([]*raftpb.Account, rapid.IntRange(0, 3).Draw(t, "accounts"))
		for i := range list {
			list[i] = &raftpb.Account{
				LocalPart: one(someLocals), Domain: one(someDomains), Shard: rapid.Uint32().Draw(t, "shard"), Recipient: "age1",
				Slots: []*raftpb.Slot{{Id: 1, Kind: "password", Record: rapid.SliceOf(rapid.Byte()).Draw(t, "record")}},
				State: raftpb.AccountState_ACCOUNT_STATE_ACTIVE, Number: 99, Version: 9, // which are the directory's to give
			}
		}
		cmd.Op = &raftpb.Command_AddAccounts{AddAccounts: &raftpb.AddAccounts{Accounts: list}}
	case 6, 7, 8:
		a := &raftpb.Account{Number: number, LocalPart: "alice", Domain: "a.example"}
		if old := m.accounts[number]; old != nil {
			a = clone(old)
		}
		a.State = raftpb.AccountState(rapid.Int32Range(1, 3).Draw(t, "state"))
		a.QuotaBytes = rapid.Uint64().Draw(t, "quota")
		a.PreviousKeys = nil
		for i := range rapid.SampledFrom([]uint64{0, 0, 0, 1, 2}).Draw(t, "previous keys") {
			a.PreviousKeys = append(a.PreviousKeys, &raftpb.PreviousKey{Number: i, Sealed: []byte("sealed")})
		}
		switch rapid.IntRange(0, 9).Draw(t, "wrong") {
		case 0:
			a.Version++
		case 1:
			a.LocalPart = "other"
		case 2:
			a = nil
		}
		cmd.Op = &raftpb.Command_UpdateAccount{UpdateAccount: &raftpb.UpdateAccount{Account: a}}
	case 9:
		cmd.Op = &raftpb.Command_DropAccount{DropAccount: &raftpb.DropAccount{Number: number}}
	case 10, 11:
		targets := rapid.SliceOfN(rapid.SampledFrom(someLocals), 0, 3).Draw(t, "targets")
		cmd.Op = &raftpb.Command_AddAlias{AddAlias: &raftpb.AddAlias{LocalPart: one(someLocals), Domain: one(someDomains), Targets: targets}}
	case 12:
		cmd.Op = &raftpb.Command_RemoveAlias{RemoveAlias: &raftpb.RemoveAlias{LocalPart: one(someLocals), Domain: one(someDomains)}}
	case 13:
		id := rapid.Uint32Range(0, 5).Draw(t, "shard")
		cmd.Op = &raftpb.Command_PutShard{PutShard: &raftpb.PutShard{
			Id: id, Voters: rapid.SliceOfN(rapid.SampledFrom(someLocals), 0, 3).Draw(t, "voters"),
			Version: m.shards[id].GetVersion() + stale(),
		}}
	case 14:
		n := node()
		n.Version = m.nodes[n.Id].GetVersion() + stale()
		cmd.Op = &raftpb.Command_PutNode{PutNode: n}
	case 15:
		cmd.Op = &raftpb.Command_PutCluster{PutCluster: &raftpb.PutCluster{Name: one(someDomains)}}
	case 16:
		cmd.Op = &raftpb.Command_AddToken{AddToken: &raftpb.AddToken{
			Id: token(), Hash: make([]byte, rapid.SampledFrom([]int{0, 32, 32, 32}).Draw(t, "hash")),
			Expires: rapid.Int64().Draw(t, "expires"),
		}}
	case 17:
		use := &raftpb.UseToken{Id: token()}
		if stale() == 0 {
			use.Node = node()
		}
		cmd.Op = &raftpb.Command_UseToken{UseToken: use}
	case 18:
		size := rapid.SampledFrom([]int{31, 32, 32}).Draw(t, "size")
		cmd.Op = &raftpb.Command_PutSecret{PutSecret: &raftpb.PutSecret{Value: rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "secret")}}
	case 19:
		cmd.Op = &raftpb.Command_NoteFailures{NoteFailures: &raftpb.NoteFailures{
			Key: []byte(one(append(someKeys, "short"))), Failures: rapid.Uint32().Draw(t, "failures"), Until: cmd.Now + rapid.Int64Range(-1, 9).Draw(t, "until"),
		}}
	default:
		cmd.Op = &raftpb.Command_RemoveAccount{RemoveAccount: &raftpb.RemoveAccount{Account: number}} // a shard's
	}
	return cmd
}

// compareState compares all that can be seen.
func compareState(t *rapid.T, d *Directory, m *model, shown map[string]bool) {
	t.Helper()
	var domains []Domain
	want := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(m.domains)) {
		dom := Domain{m.domains[name], name}
		domains = append(domains, dom)
		want[name] = true
		same(t, "domain", dom, value(d.Domain(name)))
		same(t, "domain by its number", dom, value(d.DomainByID(dom.ID)))
		compareDomain(t, d, m, dom)
	}
	same(t, "domains", domains, value(d.Domains()))
	var accounts []*raftpb.Account
	err := d.AllAccounts(func(a *raftpb.Account) bool { accounts = append(accounts, a); return true })
	same(t, "accounts", sorted(m.accounts), value(accounts, err))
	var unfinished []*raftpb.Account
	for _, a := range sorted(m.accounts) {
		active := a.State == raftpb.AccountState_ACCOUNT_STATE_ACTIVE
		if active {
			want[a.LocalPart+"@"+a.Domain] = true
		}
		whole := active && len(a.PreviousKeys) == 0
		if !whole {
			unfinished = append(unfinished, a)
		}
		same(t, "account", a, value(d.Account(a.Number)))
		same(t, "unfinished", !whole, value(d.NotedUnfinished(a.Number)))
	}
	same(t, "unfinished accounts", unfinished, value(d.UnfinishedAccounts()))
	same(t, "what events tell", want, shown)
	same(t, "shards", sorted(m.shards), value(d.Shards()))
	same(t, "nodes", sorted(m.nodes), value(d.Nodes()))
	for id, s := range m.shards {
		same(t, "shard", s, value(d.Shard(id)))
	}
	for name, n := range m.nodes {
		same(t, "node", n, value(d.Node(name)))
	}
	for id, tok := range m.tokens {
		same(t, "token", tok, value(d.Token([]byte(id))))
	}
	for _, key := range someKeys {
		want := m.failures[key]
		if got, err := d.Failures([]byte(key)); want == nil && err != syscall.ENOENT || want != nil && !proto.Equal(got, want) {
			t.Fatalf("failures noted are %v, %v, want %v", got, err, want)
		}
	}
	if c, err := d.Secret(); m.secret == nil && err != syscall.ENOENT || m.secret != nil && !proto.Equal(c, m.secret) {
		t.Fatalf("secret is %v, %v, want %v", c, err, m.secret)
	}
	if c, err := d.Cluster(); m.cluster == nil && err != syscall.ENOENT || m.cluster != nil && !proto.Equal(c, m.cluster) {
		t.Fatalf("cluster is %v, %v, want %v", c, err, m.cluster)
	}
	_, errShard := d.Shard(7)
	_, errNode := d.Node("none")
	_, errToken := d.Token([]byte("none"))
	if errShard != syscall.ENOENT || errNode != syscall.ENOENT || errToken != syscall.ENOENT {
		t.Fatalf("what is not there: %v, %v, %v", errShard, errNode, errToken)
	}
	_, err = d.Account(m.lastAccount + 1)
	_, err2 := d.Domain("none")
	_, err3 := d.DomainByID(m.lastDomain + 1)
	if err != syscall.ENOENT || err2 != syscall.ENOENT || err3 != syscall.ENOENT {
		t.Fatalf("what is not there: %v, %v, %v", err, err2, err3)
	}
}

func compareDomain(t *rapid.T, d *Directory, m *model, dom Domain) {
	t.Helper()
	same(t, "aliases", m.aliasesIn(dom.Name), value(d.Aliases(dom.ID)))
	accounts := m.in(dom.Name)
	same(t, "accounts of the domain", accounts, value(d.Accounts(dom.ID, "", len(accounts)+1)))
	for limit := range len(accounts) {
		after := accounts[limit].LocalPart
		list := value(d.Accounts(dom.ID, after, limit+1))
		same(t, "accounts behind "+after, accounts[limit+1:][:min(limit+1, len(accounts)-limit-1)], list)
	}
	for _, local := range someLocals {
		a, err := d.FindAccount(local, dom.ID)
		alias, err2 := d.Alias(local, dom.ID)
		i := slices.IndexFunc(accounts, func(a *raftpb.Account) bool { return a.LocalPart == local })
		switch {
		case i >= 0:
			same(t, "account found", accounts[i], value(a, err))
		case err != syscall.ENOENT:
			t.Fatalf("account %s, which is not there: %v, %v", local, a, err)
		}
		switch want := m.aliases[address{local, dom.Name}]; {
		case want != nil:
			same(t, "alias", want, value(alias, err2))
		case err2 != syscall.ENOENT:
			t.Fatalf("alias %s, which is not there: %v, %v", local, alias, err2)
		}
	}
}

// value is what a look-up answers that must not fail.
func value[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func same(t *rapid.T, what string, want, got any) {
	t.Helper()
	if d := gocmp.Diff(want, got, protocmp.Transform(), cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s differ (-want +got):\n%s", what, d)
	}
}
