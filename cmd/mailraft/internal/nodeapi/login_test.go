package nodeapi

import (
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/nodeapi/nodepb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/proxy"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// update changes an account's record, as another node might.
func (w *world) update(t *testing.T, a *raftpb.Account, change func(*raftpb.Account)) {
	t.Helper()
	update(t, w.store, a, change)
}

func update(t *testing.T, store *raftstore.Store, a *raftpb.Account, change func(*raftpb.Account)) {
	t.Helper()
	err := store.Directory().UpdateAccount(within(t), tree.Account(a.Number), func(now *raftpb.Account) error {
		change(now)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// becomes waits until an account's record is so.
func (w *world) becomes(t *testing.T, a *raftpb.Account, so func(now *raftpb.Account) bool) {
	t.Helper()
	changed := make(chan struct{}, 1)
	cancel := w.store.Directory().Subscribe(func(raftstore.DirectoryEvent) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	for ctx := within(t); ; {
		now, err := w.store.Directory().Account(tree.Account(a.Number))
		if err != nil {
			t.Fatal(err)
		}
		if so(now) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("it stays %v", now)
		}
	}
}

// reset gives an account a new key pair, under a new password.
func (w *world) reset(t *testing.T, a *raftpb.Account, password string) {
	t.Helper()
	recipient, slots, err := keys(a.Number, 2, password)
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, a, func(now *raftpb.Account) { now.Recipient, now.Slots = recipient, slots })
}

func (w *world) remove(t *testing.T, a *raftpb.Account) {
	t.Helper()
	if err := w.store.Directory().RemoveAccount(within(t), a.LocalPart, a.Domain); err != nil {
		t.Fatal(err)
	}
}

// rewrap puts an account's key under another password.
func (w *world) rewrap(t *testing.T, a *raftpb.Account, old, new string) {
	t.Helper()
	rewrap(t, w.store, a, old, new)
}

func rewrap(t *testing.T, store *raftstore.Store, a *raftpb.Account, old, new string) {
	t.Helper()
	was, err := slot.Unmarshal(a.Slots[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	id, err := slot.Unwrap(was, uint64(a.Number), []byte(old))
	if err != nil {
		t.Fatal(err)
	}
	s, err := slot.Wrap(id, []byte(new), cheap, slot.Binding{Account: uint64(a.Number), Slot: 2, Kind: slot.Password})
	if err != nil {
		t.Fatal(err)
	}
	update(t, store, a, func(now *raftpb.Account) {
		now.Slots = []*raftpb.Slot{{Id: 2, Kind: "password", Record: s.Marshal()}}
	})
}

// TestALoginUnderWay changes the account after the login has read its record and derived its key, and before it has a session.
func TestALoginUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *world, *raftpb.Account)
		want   error
	}{
		"reset":    {func(t *testing.T, w *world, a *raftpb.Account) { w.reset(t, a, "other") }, proxy.ErrAuthentication},
		"password": {func(t *testing.T, w *world, a *raftpb.Account) { w.rewrap(t, a, "secret", "other") }, proxy.ErrAuthentication},
		"removal":  {func(t *testing.T, w *world, a *raftpb.Account) { w.remove(t, a) }, proxy.ErrAuthentication},
		"another of that name": {func(t *testing.T, w *world, a *raftpb.Account) {
			w.remove(t, a)
			w.accountWith(t, "alice", "other", 0)
		}, proxy.ErrAuthentication},
		"the same password, another key": {func(t *testing.T, w *world, a *raftpb.Account) { w.reset(t, a, "secret") }, nil},
		"quota": {func(t *testing.T, w *world, a *raftpb.Account) {
			w.update(t, a, func(a *raftpb.Account) { a.QuotaFiles = 9 })
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.account(t, "alice", 0)
			var once sync.Once
			w.left = func() {
				once.Do(func() {
					c.change(t, w, a)
					w.access.Enforce(a.Number) // while there is nothing to end yet
				})
			}
			s, err := w.client.Login(within(t), credentials("alice@example.org", "secret"))
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			id, unlocked := w.ring.Identity(uint64(a.Number))
			if unlocked != (c.want == nil) {
				t.Errorf("unlocked: %v", unlocked)
			}
			if err != nil {
				return
			}
			now, err := w.store.Directory().FindAccount("alice", "example.org")
			if err != nil {
				t.Fatal(err)
			}
			if id.Recipient().String() != now.Recipient {
				t.Error("unlocked with a key that is not the account's")
			}
			s.Close()
		})
	}
}

// TestASessionEndsWithItsPassword changes the account, as another node might, while it has a session and one in its grace.
func TestASessionEndsWithItsPassword(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *world, *raftpb.Account){
		"reset":    func(t *testing.T, w *world, a *raftpb.Account) { w.reset(t, a, "other") },
		"password": func(t *testing.T, w *world, a *raftpb.Account) { w.rewrap(t, a, "secret", "other") },
		"removal":  func(t *testing.T, w *world, a *raftpb.Account) { w.remove(t, a) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.account(t, "alice", 0)
			s, err := w.client.Login(within(t), credentials("alice@example.org", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			w.update(t, a, func(a *raftpb.Account) { a.QuotaFiles = 9 })
			w.access.Enforce(a.Number)
			select {
			case <-s.Done():
				t.Fatal("a quota ended the session")
			default:
			}
			locked := w.locks()
			change(t, w, a)
			select {
			case <-locked:
			case <-within(t).Done():
				t.Fatal("still unlocked")
			}
			<-s.Done()
			if name == "removal" {
				return
			}
			again, err := w.client.Login(within(t), credentials("alice@example.org", "other"))
			if err != nil {
				t.Fatal("the new password:", err)
			}
			again.Close()
		})
	}
}

// addSlot wraps an account's key, which the password opens, under another secret.
func (w *world) addSlot(t *testing.T, a *raftpb.Account, password string, kind slot.Kind, secret []byte, p slot.Params, record *raftpb.Slot, salt ...byte) {
	t.Helper()
	was, err := slot.Unmarshal(a.Slots[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	id, err := slot.Unwrap(was, uint64(a.Number), []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, a, func(now *raftpb.Account) {
		number := uint32(len(now.Slots) + 9)
		s, err := slot.Wrap(id, secret, p, slot.Binding{Account: uint64(a.Number), Slot: uint64(number), Kind: kind, Salt: salt})
		if err != nil {
			t.Fatal(err)
		}
		record.Id, record.Kind, record.Record = number, kind.String(), s.Marshal()
		now.Slots = append(now.Slots, record)
	})
}

// app adds an app password to an account.
func (w *world) app(t *testing.T, a *raftpb.Account, password, name string, protocols ...string) (text string) {
	t.Helper()
	random := passwords.Random()
	w.addSlot(t, a, password, slot.App, passwords.Secret(random), slot.Params{}, &raftpb.Slot{Name: name, Protocols: protocols})
	return string(random)
}

// TestAppPassword: it logs in where it is good, without a derivation; elsewhere it is as a wrong password. When it is used is noted, and who
// it has let in is out when it is removed.
func TestAppPassword(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	all := w.app(t, a, "secret", "phone")
	imap := w.app(t, a, "secret", "laptop", "imap")
	var derivations atomic.Int64
	w.left = func() { derivations.Add(1) }
	login := func(password, protocol string, want error, derived int64) proxy.Session {
		t.Helper()
		c := credentials("alice@example.org", password)
		c.Protocol = protocol
		s, err := w.client.Login(within(t), c)
		if !errors.Is(err, want) {
			t.Errorf("%s by %s: %v, want %v", password, protocol, err, want)
		}
		if n := derivations.Swap(0); n != derived {
			t.Errorf("%s by %s: %d derivations", password, protocol, n)
		}
		return s
	}
	phone := login(strings.ToUpper(strings.ReplaceAll(all, "-", " ")), "pop3", nil, 0)
	w.wantReader(t, "by app password", a)
	laptop := login(imap, "imap", nil, 0)
	defer laptop.Close()
	login(imap, "pop3", proxy.ErrAuthentication, 1)
	login(imap, "", proxy.ErrAuthentication, 1)
	login(string(passwords.Random()), "imap", proxy.ErrAuthentication, 1)
	own := login("secret", "imap", nil, 1)
	defer own.Close()
	w.becomes(t, a, func(now *raftpb.Account) bool { // both were used
		return !slices.ContainsFunc(now.Slots, func(s *raftpb.Slot) bool { return s.Kind == "app" && s.LastUsed == 0 })
	})
	for _, s := range []proxy.Session{phone, laptop, own} {
		select {
		case <-s.Done():
			t.Error("a note of it has ended a session")
		default:
		}
	}
	w.update(t, a, func(now *raftpb.Account) {
		now.Slots = slices.DeleteFunc(now.Slots, func(s *raftpb.Slot) bool { return s.Name == "phone" })
	})
	<-phone.Done()
	login(all, "pop3", proxy.ErrAuthentication, 1)
	for _, s := range []proxy.Session{laptop, own} {
		select {
		case <-s.Done():
			t.Error("another session has ended")
		default:
		}
	}
}

// TestAnUnknownUserIsAsAWrongPassword compares the work and the answer, to the letter.
func TestAnUnknownUserIsAsAWrongPassword(t *testing.T) {
	w := newWorld(t)
	alice := w.account(t, "alice", 0)
	bare := w.account(t, "bare", 0)
	w.update(t, bare, func(a *raftpb.Account) { a.Slots = nil })
	var derivations atomic.Int64
	w.left = func() { derivations.Add(1) }
	refused := func(user, password string) string {
		stream, err := w.client.node.Login(within(t), &nodepb.LoginRequest{Username: user, Password: []byte(password), Remote: "192.0.2.1:9"})
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil {
			t.Fatalf("%s logs in with %q", user, password)
		}
		if n := derivations.Swap(0); n != 1 {
			t.Errorf("%s with %q: %d derivations", user, password, n)
		}
		return status.Convert(err).String()
	}
	wrong := refused("alice@example.org", "wrong")
	for _, user := range []string{"bob@example.org", "alice@nowhere.example", "alice", "", "@", "bare@example.org"} {
		if got := refused(user, "secret"); got != wrong {
			t.Errorf("%s: %q, a wrong password is %q", user, got, wrong)
		}
	}
	// An account that is unlocked does not show it to those who do not know its password.
	s, err := w.client.Login(within(t), credentials("alice@example.org", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// By that login the password gets its slot for SCRAM. A login that reads the record before and after that derives anew.
	w.becomes(t, alice, func(now *raftpb.Account) bool { return slices.ContainsFunc(now.Slots, access.ProvesPassword) })
	derivations.Store(0)
	if got := refused("alice@example.org", "wrong"); got != wrong {
		t.Errorf("unlocked: %q, locked: %q", got, wrong)
	}
}

// TestOneHostDoesNotHoldTheLine has one host wait with as many logins as it may, and more, while another waits with one.
func TestOneHostDoesNotHoldTheLine(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice", 0)
	var leave []func()
	for range 2 { // all of the turns
		f, err := w.gate.Enter(within(t), "", slot.DefaultParams)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, f)
	}
	results := make(chan error)
	login := func(host byte, password string) {
		cr := credentials("alice@example.org", password)
		cr.Remote = &net.TCPAddr{IP: net.IPv4(192, 0, 2, host), Port: 9}
		s, err := w.client.Login(within(t), cr)
		if err == nil {
			s.Close()
		}
		results <- err
	}
	for range slot.MaxWaiting + 1 {
		go login(1, "wrong")
	}
	if err := <-results; !errors.Is(err, proxy.ErrTemporary) { // the last one: the others wait
		t.Fatal("one too many:", err)
	}
	go login(2, "secret")
	for _, f := range leave {
		f()
	}
	in := 0
	for range slot.MaxWaiting + 1 {
		switch err := <-results; {
		case err == nil:
			in++
		case !errors.Is(err, proxy.ErrAuthentication):
			t.Error(err)
		}
	}
	if in != 1 {
		t.Errorf("%d of one login from elsewhere", in)
	}
}

// TestNoPasswordOpensAnotherKey has a key in the slots that is not the directory's.
func TestNoPasswordOpensAnotherKey(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	recipient, _, err := keys(a.Number, 2, "secret")
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, a, func(a *raftpb.Account) { a.Recipient = recipient })
	now, err := w.access.Find(t.Context(), "alice@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.access.Unlock(t.Context(), "", now, []byte("secret"), "imap", 0); err == nil || errors.Is(err, keyring.ErrWrongPassword) {
		t.Error(err)
	}
	if w.unlocked(a) {
		t.Error("unlocked")
	}
}
