package nodeapi

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailraft/fs/seal/slot"
	"mailraft/proxy"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// withSCRAM gives an account a slot for who proves the password.
func (w *world) withSCRAM(t *testing.T, a *raftpb.Account, password string) {
	t.Helper()
	w.addSlot(t, a, password, slot.SCRAM, []byte(password), slot.Params{Passes: slot.MinIterations}, &raftpb.Slot{})
}

// prove logs in by SCRAM, and answers what the server said last.
func (w *world) prove(t *testing.T, terms proxy.ProofTerms, user, password string, bound scram.ChannelBinding) (proxy.Session, []string, error) {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	if bound.IsSupported() {
		conversation = client.NewConversationWithChannelBinding(bound)
	}
	p, err := w.client.Prove(within(t), terms)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var said []string
	challenge := ""
	for {
		message, err := conversation.Step(challenge)
		if err != nil {
			return nil, said, err
		}
		answer, session, err := p.Next([]byte(message))
		if err != nil {
			return nil, said, err
		}
		said = append(said, string(answer))
		challenge = string(answer)
		if session != nil {
			if _, err := conversation.Step(challenge); err != nil || !conversation.Valid() {
				t.Errorf("the server does not prove that it knows the account: %v", err)
			}
			return session, said, nil
		}
	}
}

// TestProve: who proves the password is in, with the account unlocked, and out when it changes. Another proof, or another user, is refused.
func TestProve(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	w.withSCRAM(t, a, "secret")
	exporter := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte("this connection")}
	other := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte("another connection")}
	terms := proxy.ProofTerms{Protocol: "imap"}
	bound := proxy.ProofTerms{Protocol: "imap", TLS: true, Binding: "tls-exporter", Data: exporter.Data}
	plus := bound
	plus.Plus = true
	for _, c := range []struct {
		what     string
		terms    proxy.ProofTerms
		user     string
		password string
		binding  scram.ChannelBinding
		want     error
	}{
		{"right", terms, "alice@example.org", "secret", scram.ChannelBinding{}, nil},
		{"written otherwise", terms, "Alice@EXAMPLE.org", "secret", scram.ChannelBinding{}, nil},
		{"right, could be bound", bound, "alice@example.org", "secret", scram.ChannelBinding{}, nil},
		{"bound", plus, "alice@example.org", "secret", exporter, nil},
		{"wrong", terms, "alice@example.org", "Secret", scram.ChannelBinding{}, proxy.ErrAuthentication},
		{"wrong, bound", plus, "alice@example.org", "Secret", exporter, proxy.ErrAuthentication},
		{"bound to another", plus, "alice@example.org", "secret", other, proxy.ErrAuthentication},
		{"not bound", plus, "alice@example.org", "secret", scram.ChannelBinding{}, proxy.ErrMalformed},
		{"bound to nothing", terms, "alice@example.org", "secret", exporter, proxy.ErrMalformed},
		{"nobody", terms, "bob@example.org", "secret", scram.ChannelBinding{}, proxy.ErrAuthentication},
		{"no address", terms, "alice", "secret", scram.ChannelBinding{}, proxy.ErrAuthentication},
	} {
		s, _, err := w.prove(t, c.terms, c.user, c.password, c.binding)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		if _, unlocked := w.ring.Identity(uint64(a.Number)); unlocked != (c.want == nil) {
			t.Errorf("%s: unlocked: %v", c.what, unlocked)
		}
		if s != nil {
			if s.Mailbox().Account != "alice@example.org" {
				t.Errorf("%s: %+v", c.what, s.Mailbox())
			}
			w.wantReader(t, c.what, a)
			locked := w.locks()
			s.Close()
			<-locked
		}
	}

	s, _, err := w.prove(t, terms, "alice@example.org", "secret", scram.ChannelBinding{})
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, a, func(a *raftpb.Account) { a.QuotaFiles = 9 })
	w.access.Enforce(a.Number)
	select {
	case <-s.Done():
		t.Error("a quota ended the session")
	default:
	}
	w.update(t, a, func(now *raftpb.Account) {
		now.Slots = slices.DeleteFunc(now.Slots, func(s *raftpb.Slot) bool { return s.Kind == "scram" })
	})
	<-s.Done()
	if _, _, err := w.prove(t, terms, "alice@example.org", "secret", scram.ChannelBinding{}); !errors.Is(err, proxy.ErrAuthentication) {
		t.Error("by a slot that is gone:", err)
	}
}

// TestProveAnAppPassword: of several passwords that share a salt each is proved, where it is good; and none when it is gone.
func TestProveAnAppPassword(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	w.withSCRAM(t, a, "secret")
	now, err := w.store.Directory().Account(tree.Account(a.Number))
	if err != nil {
		t.Fatal(err)
	}
	own, err := slot.Unmarshal(now.Slots[1].Record)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"phone", "laptop"} {
		w.addSlot(t, a, "secret", slot.SCRAM, []byte("for "+name), own.Params, &raftpb.Slot{Name: name, Protocols: []string{"imap"}}, own.Salt[:]...)
	}
	w.addSlot(t, a, "secret", slot.SCRAM, []byte("another salt"), own.Params, &raftpb.Slot{Name: "tablet"})
	for _, c := range []struct {
		password, protocol string
		want               error
	}{
		{"secret", "imap", nil}, {"for phone", "imap", nil}, {"for laptop", "imap", nil}, {"secret", "pop3", nil},
		{"for phone", "pop3", proxy.ErrAuthentication}, {"another salt", "imap", proxy.ErrAuthentication}, {"for", "imap", proxy.ErrAuthentication},
	} {
		s, _, err := w.prove(t, proxy.ProofTerms{Protocol: c.protocol}, "alice@example.org", c.password, scram.ChannelBinding{})
		if !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if s != nil {
			s.Close()
		}
	}
	s, _, err := w.prove(t, proxy.ProofTerms{Protocol: "imap"}, "alice@example.org", "for phone", scram.ChannelBinding{})
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, a, func(now *raftpb.Account) {
		now.Slots = slices.DeleteFunc(now.Slots, func(s *raftpb.Slot) bool { return s.Name == "phone" })
	})
	<-s.Done()
}

// TestAnOldPasswordIsLearned: an account whose password was set before there was SCRAM can prove it once it has been sent, with the salt that it
// had when nobody could.
func TestAnOldPasswordIsLearned(t *testing.T) {
	w := newWorld(t)
	a := w.account(t, "alice", 0)
	terms := proxy.ProofTerms{Protocol: "imap"}
	_, before, err := w.prove(t, terms, "alice@example.org", "secret", scram.ChannelBinding{})
	if !errors.Is(err, proxy.ErrAuthentication) {
		t.Fatal(err)
	}
	for range 2 {
		s, err := w.client.Login(within(t), credentials("alice@example.org", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	w.becomes(t, a, func(now *raftpb.Account) bool { return len(now.Slots) == 2 })
	s, after, err := w.prove(t, terms, "alice@example.org", "secret", scram.ChannelBinding{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	salt := func(said []string) string { return strings.Split(said[0], ",")[1] }
	if salt(before) != salt(after) {
		t.Errorf("the salt was %s, and is %s", salt(before), salt(after))
	}
}

// TestNobodyTellsUsersApart: who does not exist, and who has no such slot, is answered as who does, with a salt that stays the same.
func TestNobodyTellsUsersApart(t *testing.T) {
	w := newWorld(t)
	w.withSCRAM(t, w.account(t, "alice", 0), "secret")
	w.account(t, "old", 0)
	seen := map[string]string{}
	for _, user := range []string{"alice@example.org", "bob@example.org", "old@example.org", "carol@nowhere.example", "nonsense"} {
		for range 2 {
			_, said, err := w.prove(t, proxy.ProofTerms{Protocol: "imap"}, user, "wrong", scram.ChannelBinding{})
			if len(said) != 1 || !errors.Is(err, proxy.ErrAuthentication) {
				t.Fatalf("%s: %q, %v", user, said, err)
			}
			fields := strings.Split(said[0], ",")
			salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[1], "s="))
			if len(fields) != 3 || len(salt) != 16 || err != nil || fields[2] != "i=4096" {
				t.Errorf("%s: %s", user, said[0])
			}
			if was, ok := seen[user]; ok && was != fields[1] {
				t.Errorf("%s has the salts %s and %s", user, was, fields[1])
			}
			for other, salt := range seen {
				if other != user && salt == fields[1] {
					t.Errorf("%s and %s have the salt %s", user, other, salt)
				}
			}
			seen[user] = fields[1]
		}
	}
}

// TestMalformedProofs are refused as what they are, and the service goes on.
func TestMalformedProofs(t *testing.T) {
	w := newWorld(t)
	w.withSCRAM(t, w.account(t, "alice", 0), "secret")
	const first = "n,,n=alice@example.org,r=abcdefghijklmnop"
	for _, messages := range [][]string{
		{""}, {"\x00"}, {"n,,"}, {"n,,n=alice@example.org"}, {"x,,n=alice@example.org,r=abc"}, {strings.Repeat("n,", 10000)},
		{first, ""}, {first, "c=biws"}, {first, "c=biws,r=abc,p="}, {first, "c=biws,r=abc,p=%"}, {first, ",p=AAAA"},
	} {
		p, err := w.client.Prove(within(t), proxy.ProofTerms{Protocol: "imap"})
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			_, s, err := p.Next([]byte(m))
			if last := i == len(messages)-1; s != nil || last != (err != nil) || last && !errors.Is(err, proxy.ErrMalformed) && !errors.Is(err, proxy.ErrAuthentication) {
				t.Errorf("%q: %v, %v", messages, s, err)
			}
		}
		p.Close()
	}
	p, err := w.client.Prove(within(t), proxy.ProofTerms{Protocol: "imap"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Next([]byte("n,a=bob@example.org,n=alice@example.org,r=abcdefghijklmnop")); !errors.Is(err, proxy.ErrAuthentication) {
		t.Error("for somebody else:", err)
	}
	p.Close()
	if s, _, err := w.prove(t, proxy.ProofTerms{Protocol: "imap"}, "alice@example.org", "secret", scram.ChannelBinding{}); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
}
