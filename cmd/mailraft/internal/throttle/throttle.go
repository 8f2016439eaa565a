package throttle

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// ErrTooMany: so many logins have failed from that network that no more is tried now.
var ErrTooMany = errors.New("too many logins have failed from there: try again later")

const (
	// free failures have no consequence: people mistype.
	free = 4
	// accountDelay is the longest that a login waits because of others' failures at its account.
	accountDelay = 8 * time.Second
	// networkDelay is the longest between two tries from one network, and patience how long one waits: who would have to wait longer is refused.
	networkDelay = time.Minute
	patience     = 8 * time.Second
	// oneAccount is how many failures of one account count for a network: a program with an old password tries it for ever, and its
	// neighbours must not suffer.
	oneAccount = 10
	// trust is how many failures in a row who has logged in before is not delayed for.
	trust = 20
	// forget is after how long without another what failed is forgotten.
	forget = time.Hour
	// shareFrom is how many failures all nodes are told of, and of twice as many again: a few writes to the directory for a storm.
	shareFrom = 8
	// askEvery is how often this node asks for what is to be told other nodes under, and askTime how long a login waits for it.
	askEvery = 10 * time.Second
	askTime  = time.Second
	// shareTime bounds telling them.
	shareTime = 5 * time.Second
	// most is how many networks, accounts and pairs of them are remembered, some 10 MiB: of more, any are forgotten.
	most = 65536
)

// Directory is what all nodes know: a *raftstore.Directory.
type Directory interface {
	// Secret answers 32 octets for a purpose, the same on all nodes.
	Secret(ctx context.Context, purpose string) ([]byte, error)
	NoteFailures(ctx context.Context, key []byte, failures uint32, until time.Time) error
	Failures(key []byte) (uint32, error)
}

// Throttle counts what fails. It may be used by many goroutines.
type Throttle struct {
	directory Directory
	log       *slog.Logger
	now       func() time.Time
	sleep     func(context.Context, time.Duration) error

	refused, delayed atomic.Uint64

	mu     sync.Mutex
	secret []byte    // that all nodes have; nil: not asked for yet
	own    []byte    // used as long as the other can't be had
	asked  time.Time // for the other, in vain
	failed map[pair]*failures
	known  map[pair]int // who has logged in to which account from where: how many failures do not matter yet
}

// pair is a network and an account; with one of them alone it is about all that has to do with that.
type pair struct{ network, account key }

// key is the keyed hash of a network or an account: neither is kept, nor told to other nodes.
type key [16]byte

// failures are those of one pair, one after the other without a pause of forget.
type failures struct {
	count   uint32
	last    time.Time
	next    time.Time // of a network: when the next may be tried
	tell    uint32    // what the other nodes are to be told
	telling bool      // a goroutine does so
}

// New makes a throttle that has seen nothing.
func New(d Directory, log *slog.Logger) *Throttle {
	own := make([]byte, sha256.Size)
	rand.Read(own) // never fails
	return &Throttle{
		directory: d, log: log, now: time.Now, sleep: sleep, own: own,
		failed: map[pair]*failures{}, known: map[pair]int{},
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Counts are how many logins have failed since the start, and how many were made to wait, or refused untried, because of that.
func (t *Throttle) Counts() (failed, delayed uint64) { return t.refused.Load(), t.delayed.Load() }

// Attempt is a login that is about to be tried.
type Attempt struct {
	throttle *Throttle
	of       pair // network zero: this machine itself, which is many people's
	shared   bool // other nodes have the same keys
}

// Enter waits until a login may be tried: of the account, which need not exist, from the network, "" for this machine itself. What became of it
// Failed or Succeeded has to be told, if it can be told. Errors: ErrTooMany; ctx's.
func (t *Throttle) Enter(ctx context.Context, network, account string) (*Attempt, error) {
	a := &Attempt{throttle: t}
	secret, shared := t.hashKey(ctx)
	a.shared = shared
	a.of.account = hash(secret, "account", account)
	if network != "" {
		a.of.network = hash(secret, "network", network)
	}
	wait, err := t.wait(a)
	if err != nil || wait > 0 {
		t.delayed.Add(1)
	}
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		err = t.sleep(ctx, wait)
	}
	return a, err
}

// hashKey is what keys are hashed under: the same on all nodes, or, as long as that can't be had, this node's own. Before all nodes run a
// version that knows it, and without a quorum, people log in all the same.
func (t *Throttle) hashKey(ctx context.Context) (secret []byte, shared bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secret == nil && (t.asked.IsZero() || t.now().Sub(t.asked) > askEvery) {
		t.asked = t.now()
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, askTime)
		secret, err := t.directory.Secret(ctx, "mailraft failed logins")
		cancel()
		t.mu.Lock()
		if err != nil {
			t.log.Debug("failed logins are counted for this node alone", "error", err)
		} else {
			t.secret = secret
		}
	}
	if t.secret != nil {
		return t.secret, true
	}
	return t.own, false
}

func hash(secret []byte, what, name string) (k key) {
	h := hmac.New(sha256.New, secret)
	io.WriteString(h, what+"\x00"+name)
	copy(k[:], h.Sum(nil))
	return k
}

// network and account are all that comes from the attempt's network, and all that is about its account.
func (a *Attempt) network() pair { return pair{network: a.of.network} }
func (a *Attempt) account() pair { return pair{account: a.of.account} }
func (a *Attempt) local() bool   { return a.of.network == key{} }

// wait answers how long a login has to, and takes its network's next turn.
func (t *Throttle) wait(a *Attempt) (time.Duration, error) {
	ofAccount, ofNetwork := uint32(0), uint32(0)
	if a.shared {
		ofAccount = t.told(a.of.account)
	}
	if a.shared && !a.local() {
		ofNetwork = t.told(a.of.network)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.known[a.of] > 0 {
		return 0, nil
	}
	wait := delay(max(t.count(a.account(), now), ofAccount), accountDelay)
	if a.local() {
		return wait, nil
	}
	between := delay(max(t.count(a.network(), now), ofNetwork), networkDelay)
	if between == 0 {
		return wait, nil
	}
	f := t.at(a.network(), now)
	turn := max(f.next.Sub(now), 0)
	if turn > patience {
		return 0, ErrTooMany
	}
	f.next = now.Add(turn + between)
	return max(wait, turn), nil
}

// told is how many failures any node has told of.
func (t *Throttle) told(k key) uint32 {
	n, err := t.directory.Failures(k[:])
	if err != nil {
		t.log.Warn("what other nodes say of failed logins can't be read", "error", err)
	}
	return n
}

// delay grows with the failures, from a second on, up to most.
func delay(failures uint32, most time.Duration) time.Duration {
	if failures <= free {
		return 0
	}
	return min(time.Second<<min(failures-free-1, 30), most)
}

// count answers how many have failed. The caller holds t.mu.
func (t *Throttle) count(p pair, now time.Time) uint32 {
	f := t.failed[p]
	if f == nil || now.Sub(f.last) > forget {
		return 0
	}
	return f.count
}

// at answers the record of what has failed, made if need be. The caller holds t.mu.
func (t *Throttle) at(p pair, now time.Time) *failures {
	f := t.failed[p]
	if f == nil {
		makeRoom(t.failed)
		f = &failures{last: now}
		t.failed[p] = f
	}
	if now.Sub(f.last) > forget {
		f.count, f.last, f.next = 0, now, time.Time{}
	}
	return f
}

// makeRoom forgets any of a map that is full.
func makeRoom[V any](m map[pair]V) {
	if len(m) < most {
		return
	}
	for p := range m {
		delete(m, p)
		return
	}
}

// Failed counts the login as one that was refused. The other nodes are told, in their own time, when that has become many.
func (a *Attempt) Failed() {
	t := a.throttle
	t.refused.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if n := t.known[a.of]; n > 0 {
		t.known[a.of] = n - 1 // at 0 it stays known: nobody has the network's failures count half twice
	}
	a.add(a.account(), a.of.account, now)
	if a.local() {
		return
	}
	of := t.at(a.of, now)
	t.at(a.network(), now).last, of.last = now, now
	if of.count < oneAccount {
		of.count++
		a.add(a.network(), a.of.network, now)
	}
}

// add counts one more. The caller holds throttle.mu.
func (a *Attempt) add(p pair, k key, now time.Time) {
	f := a.throttle.at(p, now)
	f.count, f.last = f.count+1, now
	if a.shared && f.count >= shareFrom && bits.OnesCount32(f.count) == 1 {
		a.throttle.share(f, k, now)
	}
}

// share has the other nodes told how many have failed: of one pair one note after the other, so that the last is the newest. The caller
// holds t.mu.
func (t *Throttle) share(f *failures, k key, now time.Time) {
	f.tell = f.count
	if f.telling {
		return
	}
	f.telling = true
	go func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for told := f.tell + 1; told != f.tell; { // it may have changed meanwhile
			told = f.tell
			t.mu.Unlock()
			t.note(k, told, now.Add(forget))
			t.mu.Lock()
		}
		f.telling = false
	}()
}

func (t *Throttle) note(k key, failures uint32, until time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), shareTime)
	defer cancel()
	if err := t.directory.NoteFailures(ctx, k[:], failures, until); err != nil {
		t.log.Warn("other nodes are not told of failed logins", "failures", failures, "error", err)
	}
}

// Succeeded has others' failures not delay who comes from there to the account. The first time that somebody does, his network's failures
// count half: it is not guessing alone that comes from there.
func (a *Attempt) Succeeded() {
	t := a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.known[a.of]; !known && !a.local() {
		if f := t.failed[a.network()]; f != nil {
			told := a.shared && f.count > free // perhaps
			if f.count /= 2; told {
				t.share(f, a.of.network, t.now())
			}
		}
	}
	makeRoom(t.known)
	t.known[a.of] = trust
}
