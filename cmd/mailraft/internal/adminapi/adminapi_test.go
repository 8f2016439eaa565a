package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/peercred"
	"mailraft/fs"
	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// world is a store with the service on a real socket, and a client of it.
type world struct {
	*Client
	service *Server
	store   *raftstore.Store
	ring    *keyring.Keyring
}

func newWorld(t *testing.T, options ...grpc.ServerOption) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := raftstore.Open(within(t), raftstore.Config{Dir: filepath.Join(t.TempDir(), "store"), NodeID: "n1", Shards: 2, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	gate := slot.NewGate(2)
	ring := keyring.New(keyring.Config{Gate: gate, Previous: access.Previous(store, log)})
	t.Cleanup(func() { ring.Close() })
	resealer := fs.NewResealer(store, ring, log)
	t.Cleanup(func() { resealer.Close() })
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := peercred.Listen(socket, 0o600, -1, log, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	control := access.New(store, ring, slot.MinIterations, log)
	t.Cleanup(func() { control.Close() })
	server := grpc.NewServer(append(options, Options()...)...)
	service := NewServer(Node{Store: store, Keyring: ring, Resealer: resealer, Access: control, Gate: gate, Status: func(*adminpb.StatusReply) {}, Logger: log})
	service.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	client, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	w := &world{client, service, store, ring}
	if _, err := w.AddDomain(within(t), &adminpb.DomainRequest{Name: "example.org"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// add adds accounts and answers each one's error.
func (w *world) add(t *testing.T, requests ...*adminpb.AddAccountRequest) []string {
	t.Helper()
	stream, err := w.AddAccounts(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var answers []string
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers
		}
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, reply.Address+" "+reply.Error)
	}
}

func account(address, password string) *adminpb.AddAccountRequest {
	return &adminpb.AddAccountRequest{Address: address, Password: []byte(password), Key: "x25519", QuotaBytes: 1000}
}

func (w *world) wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %v: %v", what, got, want, err)
	}
}

func (w *world) unlock(t *testing.T, address, password string) error {
	t.Helper()
	_, err := w.Unlock(within(t), &adminpb.UnlockRequest{Address: address, Password: []byte(password), Seconds: 60})
	return err
}

func TestOneBadAccountDoesNotKeepTheOthersFromBeingAdded(t *testing.T) {
	w := newWorld(t)
	got := w.add(t, account("a@example.org", "1"), account("b@nowhere.example", "2"), account("A@example.org", "3"), account("c@example.org", ""), account("d@example.org", "4"))
	want := []string{
		"a@example.org ",
		"b@nowhere.example domain nowhere.example: no such domain",
		"A@example.org account a@example.org: exists already",
		"c@example.org the password is empty",
		"d@example.org ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for address, password := range map[string]string{"a@example.org": "1", "d@example.org": "4"} {
		if err := w.unlock(t, address, password); err != nil {
			t.Error(address, err)
		}
	}
	a, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if err != nil || a.Key != "x25519" || a.QuotaBytes != 1000 || !a.Unlocked {
		t.Errorf("%v, %v", a, err)
	}
}

// received tells what a handler has received, and when it has returned.
type received struct {
	grpc.ServerStream
	messages chan any
}

func (r *received) RecvMsg(m any) error {
	err := r.ServerStream.RecvMsg(m)
	if err == nil {
		r.messages <- m
	}
	return err
}

// TestPasswordsOfABatchThatIsCutShortAreWiped ends the client before its batch is whole.
func TestPasswordsOfABatchThatIsCutShortAreWiped(t *testing.T) {
	messages, returned := make(chan any, 2), make(chan error, 1)
	w := newWorld(t, grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, &received{stream, messages})
		returned <- err
		return err
	}))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	stream, err := w.AddAccounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var requests []*adminpb.AddAccountRequest
	for _, address := range []string{"a@example.org", "b@example.org"} {
		if err := stream.Send(account(address, "secret")); err != nil {
			t.Fatal(err)
		}
		requests = append(requests, (<-messages).(*adminpb.AddAccountRequest))
	}
	cancel()
	if err := <-returned; err == nil {
		t.Error("the handler knows of no error")
	}
	for _, req := range requests {
		if string(req.Password) != string(make([]byte, len("secret"))) {
			t.Errorf("%s: %q", req.Address, req.Password)
		}
	}
}

func TestAPasswordChangeKeepsTheKey(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "old"))
	before, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	set := func(old, new string, discard bool) error {
		_, err := w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: "a@example.org", Old: []byte(old), New: []byte(new), Discard: discard, Key: "hybrid"})
		return err
	}
	w.wantCode(t, "wrong old password", set("wrong", "new", false), codes.Unauthenticated)
	w.wantCode(t, "no new password", set("old", "", false), codes.InvalidArgument)
	w.wantCode(t, "unlock", w.unlock(t, "a@example.org", "old"), codes.OK)
	w.wantCode(t, "change", set("old", "caf\u00e9", false), codes.OK)
	if _, ok := w.ring.Identity(uint64(before.Number)); ok {
		t.Error("what the old password unlocked is still unlocked")
	}
	w.wantCode(t, "old password", w.unlock(t, "a@example.org", "old"), codes.Unauthenticated)
	w.wantCode(t, "new password, other bytes", w.unlock(t, "a@example.org", "cafe\u0301"), codes.OK)
	after, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if err != nil || after.Recipient != before.Recipient {
		t.Error("another key after a change of the password:", err)
	}

	w.wantCode(t, "discard", set("", "third", true), codes.OK)
	if _, ok := w.ring.Identity(uint64(after.Number)); ok {
		t.Error("the old key is still in use")
	}
	w.wantCode(t, "third password", w.unlock(t, "a@example.org", "third"), codes.OK)
	last, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if err != nil || last.Recipient == before.Recipient || last.Key != "hybrid" {
		t.Error("the key is the old one:", last, err)
	}
}

// TestRecovery: the code sets a password once, for the same key; then the next does. Nothing else that opened the account does so any more.
func TestRecovery(t *testing.T) {
	w := newWorld(t)
	const address = "a@example.org"
	w.add(t, account(address, "old"))
	before, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	recover := func(code []byte, new string) ([]byte, error) {
		r, err := w.Recover(within(t), &adminpb.RecoverRequest{Address: address, Code: bytes.Clone(code), New: []byte(new)})
		return r.GetCode(), err
	}
	make := func(password string) ([]byte, error) {
		r, err := w.NewRecovery(within(t), &adminpb.NewRecoveryRequest{Address: address, Password: []byte(password)})
		return r.GetCode(), err
	}
	_, err = recover(bytes.Repeat([]byte{1}, slot.SecretSize), "new")
	w.wantCode(t, "no code was made", err, codes.FailedPrecondition)
	_, err = make("wrong")
	w.wantCode(t, "a code by a wrong password", err, codes.Unauthenticated)
	lost, err := make("old")
	w.wantCode(t, "a code", err, codes.OK)
	code, err := make("old")
	w.wantCode(t, "another", err, codes.OK)
	if bytes.Equal(lost, code) || len(code) != slot.SecretSize {
		t.Fatalf("%d octets", len(code))
	}
	w.wantCode(t, "the code as a password", w.unlock(t, address, string(code)), codes.Unauthenticated)
	w.wantCode(t, "unlock", w.unlock(t, address, "old"), codes.OK)
	_, err = recover(lost, "new")
	w.wantCode(t, "the code of before", err, codes.Unauthenticated)
	_, err = recover(nil, "new")
	w.wantCode(t, "nothing", err, codes.Unauthenticated)
	_, err = recover(code, "")
	w.wantCode(t, "no password", err, codes.InvalidArgument)
	if _, ok := w.ring.Identity(uint64(before.Number)); !ok {
		t.Error("what did nothing has locked the account")
	}

	next, err := recover(code, "new")
	w.wantCode(t, "recover", err, codes.OK)
	if _, ok := w.ring.Identity(uint64(before.Number)); ok {
		t.Error("what the lost password unlocked is still unlocked")
	}
	w.wantCode(t, "the lost password", w.unlock(t, address, "old"), codes.Unauthenticated)
	w.wantCode(t, "the new one", w.unlock(t, address, "new"), codes.OK)
	_, err = recover(code, "newer")
	w.wantCode(t, "the code again", err, codes.Unauthenticated)
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, Old: []byte("new"), New: []byte("newer")})
	w.wantCode(t, "a change of the password", err, codes.OK)
	next, err = recover(next, "newest")
	w.wantCode(t, "the next code", err, codes.OK)
	after, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: address})
	if err != nil || after.Recipient != before.Recipient {
		t.Error("another key:", err)
	}
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, New: []byte("last"), Discard: true})
	w.wantCode(t, "discard", err, codes.OK)
	_, err = recover(next, "new")
	w.wantCode(t, "the code of a key that was given up", err, codes.FailedPrecondition)
}

// TestSlotsOfAPassword: with each password comes what SCRAM checks it by, and nothing of the one before stays.
func TestSlotsOfAPassword(t *testing.T) {
	w := newWorld(t)
	const address = "a@example.org"
	w.add(t, account(address, "old"))
	seen := map[string]bool{}
	check := func(after, password string, want ...string) {
		t.Helper()
		a, err := w.store.Directory().FindAccount("a", "example.org")
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		numbers := map[uint32]bool{}
		for _, r := range a.Slots {
			kinds = append(kinds, r.Kind)
			numbers[r.Id] = true
			sl, err := slot.Unmarshal(r.Record)
			if err != nil || sl.ID != uint64(r.Id) || sl.Kind.String() != r.Kind {
				t.Errorf("after %s: %+v, %v", after, r, err)
			}
			if sl.Kind != slot.SCRAM || r.Name != "" {
				continue
			}
			if seen[string(r.Record)] {
				t.Errorf("after %s SCRAM checks the password of before", after)
			}
			seen[string(r.Record)] = true
			client, err := scram.SHA256.NewClient(address, password, "")
			if err != nil {
				t.Fatal(err)
			}
			made, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(sl.Salt[:]), Iters: int(sl.Params.Passes)})
			if err != nil || !bytes.Equal(made.StoredKey, sl.SCRAM.StoredKey[:]) {
				t.Errorf("after %s SCRAM checks another password: %v", after, err)
			}
		}
		slices.Sort(kinds)
		if !slices.Equal(kinds, want) || len(numbers) != len(kinds) {
			t.Errorf("after %s there are slots %q with the numbers %v, want %q", after, kinds, numbers, want)
		}
	}
	check("account add", "old", "password", "scram")
	_, err := w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, Old: []byte("old"), New: []byte("new")})
	w.wantCode(t, "another password", err, codes.OK)
	check("account passwd", "new", "password", "scram")
	r, err := w.NewRecovery(within(t), &adminpb.NewRecoveryRequest{Address: address, Password: []byte("new")})
	w.wantCode(t, "a code", err, codes.OK)
	_, err = w.AddAppPassword(within(t), &adminpb.AddAppPasswordRequest{Address: address, Password: []byte("new"), Name: "phone"})
	w.wantCode(t, "an app password", err, codes.OK)
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, Old: []byte("new"), New: []byte("newer")})
	w.wantCode(t, "another password", err, codes.OK)
	check("account passwd with more", "newer", "app", "password", "recovery", "scram", "scram")
	_, err = w.Recover(within(t), &adminpb.RecoverRequest{Address: address, Code: r.Code, New: []byte("newest")})
	w.wantCode(t, "recover", err, codes.OK)
	check("account recover", "newest", "password", "recovery", "scram")
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, New: []byte("last"), Discard: true})
	w.wantCode(t, "discard", err, codes.OK)
	check("--discard-mail-key", "last", "password", "scram")
}

// TestAppPasswords: each has its name; it needs the password to be made, not to be removed; no admin command takes it for the password.
func TestAppPasswords(t *testing.T) {
	w := newWorld(t)
	const address = "a@example.org"
	w.add(t, account(address, "secret"))
	add := func(password, name string, protocols ...string) (string, error) {
		r, err := w.AddAppPassword(within(t), &adminpb.AddAppPasswordRequest{
			Address: address, Password: []byte(password), Name: name, Protocols: protocols,
		})
		return string(r.GetAppPassword()), err
	}
	list := func() (names []string) {
		t.Helper()
		r, err := w.ListAppPasswords(within(t), &adminpb.AccountRequest{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		for _, app := range r.AppPasswords {
			if app.LastUsed != 0 || time.Since(time.Unix(app.Created, 0)) > time.Hour {
				t.Errorf("%+v", app)
			}
			names = append(names, app.Name+strings.Join(app.Protocols, "+"))
		}
		return names
	}
	for _, wrong := range []string{"", "two\nlines", strings.Repeat("x", maxAppName+1)} {
		_, err := add("secret", wrong)
		w.wantCode(t, "the name "+wrong, err, codes.InvalidArgument)
	}
	_, err := add("secret", "phone", "imap", "ftp")
	w.wantCode(t, "a protocol that nobody logs in to", err, codes.InvalidArgument)
	_, err = add("wrong", "phone")
	w.wantCode(t, "a wrong password", err, codes.Unauthenticated)
	phone, err := add("secret", "phone")
	w.wantCode(t, "one for the phone", err, codes.OK)
	_, err = add("secret", "phone")
	w.wantCode(t, "the name again", err, codes.AlreadyExists)
	_, err = add(phone, "laptop")
	w.wantCode(t, "one by another", err, codes.Unauthenticated)
	laptop, err := add("secret", "laptop", "imap", "pop3")
	w.wantCode(t, "one for the laptop", err, codes.OK)
	if phone == laptop {
		t.Error("both are the same")
	}
	if got := list(); !slices.Equal(got, []string{"phone", "laptopimap+pop3"}) {
		t.Errorf("there are %q", got)
	}
	w.wantCode(t, "unlock by it", w.unlock(t, address, phone), codes.Unauthenticated)
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, Old: []byte(phone), New: []byte("new")})
	w.wantCode(t, "a password set by it", err, codes.Unauthenticated)
	_, err = w.SetPassword(within(t), &adminpb.SetPasswordRequest{Address: address, Old: []byte("secret"), New: []byte("new")})
	w.wantCode(t, "another password", err, codes.OK)
	_, err = w.RemoveAppPassword(within(t), &adminpb.AppPasswordRequest{Address: address, Name: "tablet"})
	w.wantCode(t, "removing what is not there", err, codes.NotFound)
	_, err = w.RemoveAppPassword(within(t), &adminpb.AppPasswordRequest{Address: address, Name: "phone"})
	w.wantCode(t, "removing", err, codes.OK)
	if got := list(); !slices.Equal(got, []string{"laptopimap+pop3"}) {
		t.Errorf("there are %q", got)
	}
	a, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	err = w.store.Directory().UpdateAccount(within(t), tree.Account(a.Number), func(now *raftpb.Account) error {
		is := slices.IndexFunc(now.Slots, func(s *raftpb.Slot) bool { return s.Name == "laptop" })
		for n := range maxApps - 1 {
			other := proto.CloneOf(now.Slots[is])
			other.Name = fmt.Sprint("app ", n)
			now.Slots = append(now.Slots, other)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = add("new", "one too many")
	w.wantCode(t, "one too many", err, codes.FailedPrecondition)
}

func TestUnlockAndLock(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	lock := func() bool {
		reply, err := w.Lock(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
		if err != nil {
			t.Fatal(err)
		}
		return reply.WasUnlocked
	}
	if lock() {
		t.Error("a new account is unlocked")
	}
	w.wantCode(t, "wrong password", w.unlock(t, "a@example.org", "Secret"), codes.Unauthenticated)
	w.wantCode(t, "nobody", w.unlock(t, "b@example.org", "secret"), codes.NotFound)
	w.wantCode(t, "no address", w.unlock(t, "a", "secret"), codes.InvalidArgument)
	_, err := w.Unlock(within(t), &adminpb.UnlockRequest{Address: "a@example.org", Password: []byte("secret"), Seconds: 1 << 40})
	w.wantCode(t, "for ever", err, codes.InvalidArgument)
	w.wantCode(t, "unlock", w.unlock(t, "a@example.org", "secret"), codes.OK)
	if !lock() || lock() {
		t.Error("lock")
	}
}

func TestErrorsHaveNoErrnoInThem(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{second(w.AddDomain(within(t), &adminpb.DomainRequest{Name: "example.org"})), codes.AlreadyExists, "domain example.org: exists already"},
		{second(w.RemoveDomain(within(t), &adminpb.DomainRequest{Name: "example.org"})), codes.FailedPrecondition, "domain example.org: domain still has accounts or aliases"},
		{second(w.RemoveDomain(within(t), &adminpb.DomainRequest{Name: "example.net"})), codes.NotFound, "domain example.net: no such domain"},
		{second(w.RemoveAccount(within(t), &adminpb.AccountRequest{Address: "b@example.org"})), codes.NotFound, "account b@example.org: no such account"},
		{second(w.AddAlias(within(t), &adminpb.Alias{Address: "c@example.org", Targets: []string{"b@example.org"}})), codes.NotFound, "target of alias c@example.org: b@example.org: no such account"},
		{second(w.RemoveAlias(within(t), &adminpb.AccountRequest{Address: "c@example.org"})), codes.NotFound, "alias c@example.org: no such alias"},
		{second(w.SetQuota(within(t), &adminpb.SetQuotaRequest{Address: "b@example.org"})), codes.NotFound, "account b@example.org: no such account"},
	} {
		st := status.Convert(c.err)
		if st.Code() != c.code || st.Message() != c.text {
			t.Errorf("%v: %q, want %v: %q", st.Code(), st.Message(), c.code, c.text)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSealedBytesOpenWithTheOwnersKeyAlone(t *testing.T) {
	w := newWorld(t)
	w.add(t, account("a@example.org", "secret"))
	message := []byte(strings.Repeat("a line of the message\r\n", 50_000))
	w.deliver(t, "a@example.org", "m", message)
	read := func(path string) ([]byte, error) {
		stream, err := w.ReadSealed(within(t), &adminpb.ReadSealedRequest{Path: path})
		if err != nil {
			return nil, err
		}
		var all []byte
		for {
			piece, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return all, nil
			}
			if err != nil {
				return nil, err
			}
			all = append(all, piece.Data...)
		}
	}
	sealed, err := read("example.org/a/cur/m")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.unlock(t, "a@example.org", "secret"); err != nil {
		t.Fatal(err)
	}
	a, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: "a@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := w.ring.Identity(uint64(a.Number))
	opened, err := seal.OpenBytes(sealed, int64(len(message)), id)
	if err != nil || string(opened) != string(message) {
		t.Error("not the message:", err)
	}
	for path, want := range map[string]codes.Code{
		"example.org/a/cur/n": codes.NotFound, "example.org/a/cur/m/x": codes.NotFound, "example.org/b/cur/m": codes.NotFound,
		"example.net/a/cur/m": codes.NotFound, "example.org/a/cur": codes.InvalidArgument, "example.org": codes.InvalidArgument,
		"../../etc/passwd": codes.NotFound, "": codes.InvalidArgument,
	} {
		_, err := read(path)
		w.wantCode(t, path, err, want)
	}
	stream, err := w.Check(within(t), &adminpb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("a sound store has a problem: %v", reply)
	}
}

// deliver puts a message in the account's cur/.
func (w *world) deliver(t *testing.T, address, name string, message []byte) {
	t.Helper()
	info, err := w.GetAccount(within(t), &adminpb.AccountRequest{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipient(info.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.SealBytes(nil, message, to)
	if err != nil {
		t.Fatal(err)
	}
	number := tree.Account(info.Number)
	p := w.store.NewProposer()
	ino, err := p.ReserveIno(within(t), number)
	if err != nil {
		t.Fatal(err)
	}
	// The quota of these accounts is small; the message is not what is tested of it.
	if err := w.store.Directory().SetQuota(within(t), number, 0, 0); err != nil {
		t.Fatal(err)
	}
	cur, err := w.store.Home(number).View().Lookup(tree.RootIno(number), "cur")
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Propose(within(t), &raftpb.Command{Op: &raftpb.Command_Create{Create: &raftpb.Create{
		Parent: uint64(cur.Ino), Name: []byte(name), Inode: uint64(ino), Mode: syscall.S_IFREG | 0o600,
		Content: &raftpb.Content{Id: uint64(ino), SealedSize: uint64(len(sealed)), Size: uint64(len(message)), Inline: sealed},
	}}})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDialSaysWhatToDo(t *testing.T) {
	_, err := Dial(filepath.Join(t.TempDir(), "admin.sock"))
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "mailraft serve") {
		t.Error(err)
	}
}
