package adminapi

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/fs/seal"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// rekeyAll makes the call, and answers the first reply and the last.
func (w *world) rekeyAll(t *testing.T, req *adminpb.RekeyRequest) (first, last *adminpb.RekeyReply, err error) {
	t.Helper()
	stream, err := w.RekeyAccount(within(t), req)
	if err != nil {
		t.Fatal(err)
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return first, last, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if last = reply; first == nil {
			first = reply
		}
	}
}

func (w *world) record(t *testing.T, local string) *raftpb.Account {
	t.Helper()
	a, err := w.store.Directory().FindAccount(local, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// contentOf is the sealed form of a message that deliver has put there.
func (w *world) contentOf(t *testing.T, a *raftpb.Account, name string) ([]byte, *tree.Inode) {
	t.Helper()
	view := w.store.Home(tree.Account(a.Number)).View()
	cur, err := view.Lookup(tree.RootIno(tree.Account(a.Number)), "cur")
	if err != nil {
		t.Fatal(err)
	}
	de, err := view.Lookup(cur.Ino, name)
	if err != nil {
		t.Fatal(err)
	}
	in, err := view.Inode(de.Ino)
	if err != nil {
		t.Fatal(err)
	}
	b, err := view.ReadContent(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b, in
}

// wantSealed wants a message to be sealed to the account's key, and to be the one that was sent.
func (w *world) wantSealed(t *testing.T, local, password, text string) {
	t.Helper()
	if err := w.unlock(t, local+"@example.org", password); err != nil {
		t.Fatal(err)
	}
	a := w.record(t, local)
	id, _ := w.ring.Identity(uint64(a.Number))
	sealed, in := w.contentOf(t, a, "m")
	if got, err := seal.OpenBytes(sealed, int64(len(text)), id); err != nil || string(got) != text || in.Key != a.Key {
		t.Errorf("sealed to key %d of %d: %.20q, %v", in.Key, a.Key, got, err)
	}
	if len(a.PreviousKeys) != 0 {
		t.Errorf("%d previous keys stay", len(a.PreviousKeys))
	}
	w.ring.Lock(uint64(a.Number))
}

func TestRekeyAccount(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	const text = "Subject: x\r\n\r\nA message.\r\n"
	w.deliver(t, "a@example.org", "m", []byte(text))
	app, err := w.AddAppPassword(within(t), &adminpb.AddAppPasswordRequest{Address: "a@example.org", Password: []byte("secret"), Name: "phone"})
	if err != nil || len(app.AppPassword) == 0 {
		t.Fatal(err)
	}
	before := w.record(t, "a")
	old, err := w.service.openFor(within(t), before, &adminpb.RekeyRequest{Password: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}

	for what, c := range map[string]struct {
		req  *adminpb.RekeyRequest
		code codes.Code
	}{
		"a wrong password":             {&adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("wrong")}, codes.Unauthenticated},
		"an app password":              {&adminpb.RekeyRequest{Address: "a@example.org", Password: app.AppPassword}, codes.Unauthenticated},
		"no password":                  {&adminpb.RekeyRequest{Address: "a@example.org"}, codes.InvalidArgument},
		"a code that there is not":     {&adminpb.RekeyRequest{Address: "a@example.org", Code: make([]byte, 20), New: []byte("new")}, codes.FailedPrecondition},
		"a code, and no password":      {&adminpb.RekeyRequest{Address: "a@example.org", Code: make([]byte, 20)}, codes.InvalidArgument},
		"another kind of key":          {&adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret"), Key: "rsa"}, codes.InvalidArgument},
		"going on with what is over":   {&adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret"), Resume: true}, codes.FailedPrecondition},
		"an account that there is not": {&adminpb.RekeyRequest{Address: "b@example.org", Password: []byte("secret")}, codes.NotFound},
	} {
		_, _, err := w.rekeyAll(t, c.req)
		w.wantCode(t, what, err, c.code)
	}
	if now := w.record(t, "a"); !proto.Equal(now, before) {
		t.Fatalf("a call that was refused has changed the account: %v", now)
	}

	if err := w.unlock(t, "a@example.org", "secret"); err != nil { // a session that the old key opened
		t.Fatal(err)
	}
	session, _ := w.ring.Identity(uint64(before.Number))
	first, last, err := w.rekeyAll(t, &adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret"), New: []byte("new"), Key: "hybrid"})
	if err != nil {
		t.Fatal(err)
	}
	if !session.Wiped() {
		t.Error("the session that the old key opened goes on")
	}
	if len(first.Code) != 0 || !slices.Equal(first.AppPasswords, []string{"phone"}) {
		t.Errorf("it says %v", first)
	}
	if r := last.Resealing; r == nil || r.Files != 1 || r.TotalFiles != 1 || r.Octets != r.TotalOctets {
		t.Errorf("in the end it says %v", r)
	}
	after := w.record(t, "a")
	if after.Key != before.Key+1 || after.Recipient == before.Recipient || !strings.HasPrefix(after.Recipient, "age1pq1") || len(after.Slots) != 2 {
		t.Errorf("record: key %d, %d slots, %.10s", after.Key, len(after.Slots), after.Recipient)
	}
	w.wantCode(t, "the password before", w.unlock(t, "a@example.org", "secret"), codes.Unauthenticated)
	w.wantSealed(t, "a", "new", text)
	sealed, _ := w.contentOf(t, after, "m")
	if _, err := seal.OpenBytes(sealed, int64(len(text)), old); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("the old key: %v", err)
	}
}

// By the recovery code, which is used up; the next one is good.
func TestRekeyByRecoveryCode(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	w.deliver(t, "a@example.org", "m", []byte("text"))
	code, err := w.NewRecovery(within(t), &adminpb.NewRecoveryRequest{Address: "a@example.org", Password: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	by := func(code []byte, password string) (*adminpb.RekeyReply, error) {
		first, _, err := w.rekeyAll(t, &adminpb.RekeyRequest{Address: "a@example.org", Code: slices.Clone(code), New: []byte(password)})
		return first, err
	}
	first, err := by(code.Code, "new")
	if err != nil {
		t.Fatal(err)
	}
	w.wantSealed(t, "a", "new", "text")
	_, err = by(code.Code, "thief")
	w.wantCode(t, "a code that was used", err, codes.Unauthenticated)
	if _, err := by(first.Code, "newer"); err != nil {
		t.Errorf("the next code: %v", err)
	}
	w.wantSealed(t, "a", "newer", "text")
}

// A second new key pair, before all is sealed to the first: what is sealed to any of them can be read, and goes to the last.
func TestRekeyTwice(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	w.deliver(t, "a@example.org", "m", []byte("text"))
	for range 3 {
		a := w.record(t, "a")
		if _, err := w.service.rekey(within(t), a, &adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret")}, []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	a := w.record(t, "a")
	if len(a.PreviousKeys) != 3 || a.OldestKey() != 0 || a.Key != 3 {
		t.Fatalf("%d previous keys, from %d to %d", len(a.PreviousKeys), a.OldestKey(), a.Key)
	}
	described, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if r := described.GetResealing(); err != nil || r == nil || r.Files != 0 || r.TotalFiles != 1 {
		t.Errorf("it is said to be at %v, %v", r, err)
	}
	reply, err := w.Status(within(t), &adminpb.StatusRequest{})
	if err != nil || len(reply.Resealing) != 1 || reply.Resealing[0].Address != "a@example.org" {
		t.Errorf("status: %v, %v", reply.GetResealing(), err)
	}
	if _, _, err := w.rekeyAll(t, &adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret"), Resume: true}); err != nil {
		t.Fatal(err)
	}
	w.wantSealed(t, "a", "secret", "text")
}

// What is discarded while it is being sealed anew stays discarded, and the new key has a number of its own.
func TestDiscardWhileResealing(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	w.deliver(t, "a@example.org", "m", []byte("text"))
	a := w.record(t, "a")
	if _, err := w.service.rekey(within(t), a, &adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("secret")}, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: "a@example.org", New: []byte("new"), Discard: true}); err != nil {
		t.Fatal(err)
	}
	if now := w.record(t, "a"); now.Key != 2 || now.IsResealed() {
		t.Fatalf("key %d, previous %d", now.Key, len(now.PreviousKeys))
	}
	// The next new key pair has nothing to do with what nobody can read.
	if _, last, err := w.rekeyAll(t, &adminpb.RekeyRequest{Address: "a@example.org", Password: []byte("new")}); err != nil || last.Resealing.TotalFiles != 1 {
		t.Errorf("%v, %v", last, err)
	}
	if _, in := w.contentOf(t, a, "m"); in.Key != 0 {
		t.Errorf("what was discarded is sealed to key %d", in.Key)
	}
}
