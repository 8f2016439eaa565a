package sasl

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	gosasl "github.com/emersion/go-sasl"

	"mailraft/proxy"
)

// script runs an exchange whose client has these responses, the first of them the initial one when initial is set, and returns the
// challenges.
func script(name string, initial bool, responses ...string) (e *Exchange, challenges []string, err error) {
	if e, err = Begin(name); err != nil {
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
		gotUser, gotPassword := e.Credentials()
		if c.err == nil && (gotUser != user || gotPassword != password) || c.err != nil && gotUser+gotPassword != "" {
			t.Errorf("%s %q: credentials %q, %q", c.name, c.responses, gotUser, gotPassword)
		}
		if _, done, err := e.Next([]byte("more")); !done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s %q goes on behind its end: %v, %v", c.name, c.responses, done, err)
		}
	}
}

// Every mechanism is tried with the library's client of the same name.
func TestLibraryClients(t *testing.T) {
	clients := map[string]gosasl.Client{
		"PLAIN": gosasl.NewPlainClient("", "alice", "secret"),
		"LOGIN": gosasl.NewLoginClient("alice", "secret"),
	}
	for _, name := range Mechanisms() {
		client := clients[name]
		if client == nil {
			t.Fatalf("%s: no client", name)
		}
		_, initial, err := client.Start()
		if err != nil {
			t.Fatal(err)
		}
		e, err := Begin(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(initial, client.Next); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if user, password := e.Credentials(); user != "alice" || password != "secret" {
			t.Errorf("%s: %q, %q", name, user, password)
		}
	}
}

// What crossed the connection is not left in memory, whatever became of it.
func TestResponsesAreWiped(t *testing.T) {
	for _, response := range []string{"\x00alice\x00secret", "bob\x00alice\x00secret", "secret", "\x00\x00secret"} {
		for _, name := range Mechanisms() {
			e, err := Begin(name)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // also behind the end
				b := []byte(response)
				e.Next(b)
				if !bytes.Equal(b, make([]byte, len(b))) {
					t.Errorf("%s leaves %q of %q", name, b, response)
				}
			}
		}
	}
}

// aMechanism has a last challenge that comes with its end, as those of the SCRAM family do.
type aMechanism struct{ take gosasl.PlainAuthenticator }

func (m aMechanism) Next([]byte) ([]byte, bool, error) {
	return []byte("proof"), true, m.take("", "alice", "secret")
}

func TestLastChallenge(t *testing.T) {
	own := mechanisms
	defer func() { mechanisms = own }()
	mechanisms = []mechanism{{"PROOF", func(take gosasl.PlainAuthenticator) gosasl.Server { return aMechanism{take} }}}
	for response, want := range map[string]error{"": nil, "x": ErrMalformed} {
		if _, asked, err := script("PROOF", true, "", response); !errors.Is(err, want) || len(asked) != 1 {
			t.Errorf("response %q: asked %q, %v", response, asked, err)
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
		user, password := e.Credentials()
		if err == nil && !(proxy.Credentials{Username: user, Password: password}).Plausible() {
			t.Errorf("success with %q and %q", user, password)
		}
		e.Next([]byte(lines))
		e.Next(nil)
	})
}
