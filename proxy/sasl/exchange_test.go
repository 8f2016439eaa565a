package sasl

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"

	gosasl "github.com/emersion/go-sasl"

	"mailraft/proxy"
)

// node lets in whoever sends a password, and proves, as its second message, "right"; then it answers "indeed".
type node struct {
	seen  []proxy.Credentials
	terms []proxy.ProofTerms
	open  int // sessions and proofs that nobody has closed
}

func (n *node) Login(_ context.Context, c proxy.Credentials) (proxy.Session, error) {
	n.seen = append(n.seen, c)
	n.open++
	return session{n}, nil
}

func (n *node) Prove(_ context.Context, t proxy.ProofTerms) (proxy.Proof, error) {
	n.terms = append(n.terms, t)
	n.open++
	return &proof{node: n}, nil
}

type session struct{ node *node }

func (session) Mailbox() proxy.Mailbox { return proxy.Mailbox{Account: "alice@example.org"} }
func (session) Done() <-chan struct{}  { return nil }
func (s session) Close() error         { s.node.open--; return nil }

type proof struct {
	node  *node
	named bool
}

func (p *proof) Next(message []byte) ([]byte, proxy.Session, error) {
	switch {
	case string(message) == "broken":
		return nil, nil, errors.New("the node is gone")
	case string(message) == "malformed":
		return nil, nil, proxy.ErrMalformed
	case !p.named:
		p.named = true
		return []byte("salt"), nil, nil
	case string(message) == "right":
		return []byte("indeed"), session{p.node}, nil
	}
	return nil, nil, proxy.ErrAuthentication
}

func (p *proof) Close() { p.node.open-- }

// script runs an exchange whose client has these responses, the first of them the initial one when initial is set, and returns the
// challenges.
func script(name string, initial bool, responses ...string) (e *Exchange, challenges []string, err error) {
	return scriptOf(&Client{Logins: &node{}, SCRAM: true, Protocol: "imap"}, name, initial, responses...)
}

func scriptOf(c *Client, name string, initial bool, responses ...string) (e *Exchange, challenges []string, err error) {
	if e, err = c.Begin(context.Background(), name); err != nil {
		return nil, nil, err
	}
	var first []byte
	if initial {
		first, responses = []byte(responses[0]), responses[1:]
	}
	err = e.Run(first, func(challenge []byte) ([]byte, error) {
		challenges = append(challenges, string(challenge))
		if len(responses) == 0 {
			return nil, errors.New("asked too often")
		}
		response := []byte(responses[0])
		responses = responses[1:]
		return response, nil
	})
	if err == nil && len(responses) > 0 {
		err = fmt.Errorf("not asked for %q", responses)
	}
	return e, challenges, err
}

func TestExchanges(t *testing.T) {
	const user, password = "alice@example.org", "secret word"
	for _, c := range []struct {
		name      string
		initial   bool
		responses []string
		asked     string
		err       error
	}{
		{"PLAIN", true, []string{"\x00" + user + "\x00" + password}, "[]", nil},
		{"plain", false, []string{"\x00" + user + "\x00" + password}, `[""]`, nil},
		{"PLAIN", true, []string{user + "\x00" + user + "\x00" + password}, "[]", nil},
		{"PLAIN", true, []string{"bob@example.org\x00" + user + "\x00" + password}, "[]", ErrIdentity},
		{"PLAIN", true, []string{""}, "[]", ErrMalformed},
		{"PLAIN", true, []string{user + "\x00" + password}, "[]", ErrMalformed},
		{"PLAIN", true, []string{"\x00" + user + "\x00" + password + "\x00"}, "[]", ErrMalformed},
		{"PLAIN", true, []string{"\x00\x00" + password}, "[]", proxy.ErrAuthentication},
		{"PLAIN", true, []string{"\x00" + user + "\x00"}, "[]", proxy.ErrAuthentication},
		{"PLAIN", true, []string{"\x00" + user + "\x00\xff"}, "[]", proxy.ErrAuthentication},
		{"LOGIN", false, []string{user, password}, `["Username:" "Password:"]`, nil},
		{"Login", true, []string{user, password}, `["Password:"]`, nil},
		{"LOGIN", false, []string{"", password}, `["Username:" "Password:"]`, proxy.ErrAuthentication},
		{"LOGIN", false, []string{user, ""}, `["Username:" "Password:"]`, proxy.ErrAuthentication},
		{"LOGIN", false, []string{user, "a\x00b"}, `["Username:" "Password:"]`, proxy.ErrAuthentication},
		{"CRAM-MD5", false, nil, "[]", ErrMechanism},
		{"OAUTHBEARER", false, nil, "[]", ErrMechanism},
		{"", false, nil, "[]", ErrMechanism},
	} {
		e, asked, err := script(c.name, c.initial, c.responses...)
		if !errors.Is(err, c.err) || fmt.Sprintf("%q", asked) != c.asked {
			t.Errorf("%s %q: asked %q, %v; want %s, %v", c.name, c.responses, asked, err, c.asked, c.err)
		}
		if e == nil {
			continue
		}
		if c.err == nil && (e.User() != user || e.password != password) || c.err != nil && e.User()+e.password != "" {
			t.Errorf("%s %q: credentials %q, %q", c.name, c.responses, e.User(), e.password)
		}
		if _, done, err := e.next([]byte("more")); !done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s %q goes on behind its end: %v, %v", c.name, c.responses, done, err)
		}
	}
}

// What sends the password is tried with the library's client of the same name, and logs in as it says.
func TestLibraryClients(t *testing.T) {
	for name, client := range map[string]gosasl.Client{
		"PLAIN": gosasl.NewPlainClient("", "alice", "secret"),
		"LOGIN": gosasl.NewLoginClient("alice", "secret"),
	} {
		_, initial, err := client.Start()
		if err != nil {
			t.Fatal(err)
		}
		n := &node{}
		c := &Client{Logins: n, Protocol: "pop3", TLS: &tls.ConnectionState{}}
		e, err := c.Begin(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(initial, client.Next); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := e.LogIn(t.Context()); err != nil || len(n.seen) != 1 ||
			n.seen[0] != (proxy.Credentials{Username: "alice", Password: "secret", Protocol: "pop3", TLS: true}) {
			t.Errorf("%s: %+v, %v", name, n.seen, err)
		}
	}
}

// SCRAM's messages go to the node and back, and the session is the node's; whatever is begun and not gone through is given back.
func TestSCRAM(t *testing.T) {
	for _, c := range []struct {
		initial   bool
		responses []string
		asked     string
		err       error
	}{
		{true, []string{"n,,n=alice", "right", ""}, `["salt" "indeed"]`, nil},
		{false, []string{"n,,n=alice", "right", ""}, `["" "salt" "indeed"]`, nil},
		{true, []string{"n,,n=alice", "wrong"}, `["salt"]`, proxy.ErrAuthentication},
		{true, []string{"malformed"}, `[]`, ErrMalformed},
		{true, []string{"n,,n=alice", "malformed"}, `["salt"]`, ErrMalformed},
		{true, []string{"n,,n=alice", "broken"}, `["salt"]`, proxy.ErrTemporary},
		{true, []string{"n,,n=alice", "right", "more"}, `["salt" "indeed"]`, ErrMalformed},
	} {
		n := &node{}
		e, asked, err := scriptOf(&Client{Logins: n, SCRAM: true, Protocol: "imap"}, "scram-sha-256", c.initial, c.responses...)
		if !errors.Is(err, c.err) || fmt.Sprintf("%q", asked) != c.asked {
			t.Errorf("%q: asked %q, %v; want %s, %v", c.responses, asked, err, c.asked, c.err)
		}
		if c.err == nil {
			s, err := e.LogIn(t.Context())
			if err != nil || s.Mailbox().Account != "alice@example.org" || len(n.seen) > 0 {
				t.Errorf("%q: %v, %v", c.responses, s, err)
			}
			n.open--
		}
		if n.open != 0 {
			t.Errorf("%q: %d are left open", c.responses, n.open)
		}
	}
	n := &node{}
	gone := errors.New("the client is gone")
	e, err := (&Client{Logins: n, SCRAM: true}).Begin(t.Context(), "SCRAM-SHA-256")
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run([]byte("n,,n=alice"), func(challenge []byte) ([]byte, error) {
		if string(challenge) == "salt" {
			return []byte("right"), nil
		}
		return nil, gone
	})
	if err != gone || n.open != 0 {
		t.Errorf("a client that goes before the end: %v, %d are left open", err, n.open)
	}
}

// tlsConnection is the server's side of a connection of that version.
func tlsConnection(t *testing.T, version uint16) *tls.ConnectionState {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go tls.Client(there, &tls.Config{InsecureSkipVerify: true, MaxVersion: version}).HandshakeContext(t.Context())
	server := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err := server.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	state := server.ConnectionState()
	return &state
}

// A client is offered what its connection has.
func TestMechanisms(t *testing.T) {
	exporter, unique := tlsConnection(t, tls.VersionTLS13), tlsConnection(t, tls.VersionTLS12)
	for _, c := range []struct {
		client  Client
		want    string
		binding string
	}{
		{Client{}, "[PLAIN LOGIN]", ""},
		{Client{TLS: exporter}, "[PLAIN LOGIN]", ""},
		{Client{SCRAM: true}, "[SCRAM-SHA-256 PLAIN LOGIN]", ""},
		{Client{SCRAM: true, TLS: &tls.ConnectionState{}}, "[SCRAM-SHA-256 PLAIN LOGIN]", ""},
		{Client{SCRAM: true, TLS: exporter}, "[SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN]", "tls-exporter"},
		{Client{SCRAM: true, TLS: unique}, "[SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN]", "tls-unique"},
	} {
		n := &node{}
		c.client.Logins = n
		if got := fmt.Sprint(c.client.Mechanisms()); got != c.want {
			t.Errorf("%+v: %s", c.client, got)
		}
		for _, name := range c.client.Mechanisms() {
			if _, _, err := scriptOf(&c.client, name, true, "n,,n=alice", "right", ""); strings.HasPrefix(name, "SCRAM") && err != nil {
				t.Error(name, err)
			}
		}
		for i, terms := range n.terms {
			if terms.Binding != c.binding || (len(terms.Data) > 0) != (c.binding != "") || terms.TLS != (c.client.TLS != nil) ||
				terms.Plus != (i == 0 && c.binding != "") {
				t.Errorf("%s: terms %+v", c.want, terms)
			}
		}
	}
}

// What crossed the connection is not left in memory, whatever became of it.
func TestResponsesAreWiped(t *testing.T) {
	c := &Client{Logins: &node{}, SCRAM: true}
	for _, response := range []string{"\x00alice\x00secret", "bob\x00alice\x00secret", "secret", "\x00\x00secret"} {
		for _, name := range c.Mechanisms() {
			e, err := c.Begin(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // also behind the end
				b := []byte(response)
				e.next(b)
				if !bytes.Equal(b, make([]byte, len(b))) {
					t.Errorf("%s leaves %q of %q", name, b, response)
				}
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for in, want := range map[string]string{"": "", "AGEAYg==": "\x00a\x00b"} {
		for _, decode := range []func([]byte) ([]byte, error){Decode, DecodeInitial} {
			if got, err := decode([]byte(in)); err != nil || got == nil || string(got) != want {
				t.Errorf("%q: %q, %v", in, got, err)
			}
		}
	}
	if got, err := DecodeInitial([]byte("=")); err != nil || got == nil || len(got) > 0 {
		t.Errorf("=: %q, %v", got, err)
	}
	for _, in := range []string{"=", "*", "AGEAYg", "AGEAYg== x", "!"} {
		if got, err := Decode([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzExchange: whatever mechanism is asked for and whatever is answered, nothing panics, and an exchange that ends well has both a
// name and a password.
func FuzzExchange(f *testing.F) {
	f.Add("PLAIN", true, "\x00alice\x00secret")
	f.Add("PLAIN", false, "bob\x00alice\x00secret\nmore")
	f.Add("LOGIN", false, "alice\nsecret")
	f.Add("login", true, "\n")
	f.Add("SCRAM-SHA-256", true, "n,,n=alice,r=x")
	f.Fuzz(func(t *testing.T, name string, initial bool, lines string) {
		e, _, err := script(name, initial, strings.Split(lines, "\n")...)
		if e == nil {
			if !errors.Is(err, ErrMechanism) {
				t.Errorf("%v", err)
			}
			return
		}
		user, password := e.User(), e.password
		if err == nil && e.proving == nil && !(proxy.Credentials{Username: user, Password: password}).Plausible() {
			t.Errorf("success with %q and %q", user, password)
		}
		e.next([]byte(lines))
		e.next(nil)
	})
}
