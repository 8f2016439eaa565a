package access

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/xdg-go/scram"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// What a SCRAM answers beside what Unlock does; test with errors.Is.
var (
	// ErrMalformed: a client's message is none of the mechanism's.
	ErrMalformed = errors.New("malformed message")
	// ErrNoSCRAM: it is turned off.
	ErrNoSCRAM = errors.New("SCRAM is turned off")
)

// SCRAM is a login by SCRAM-SHA-256, or SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the client proves that it knows the password, which stays with
// it. By what it proves that with the slot is opened. It is for one login, and for one goroutine.
//
// The client may know any of several passwords, the account's own and app passwords, and does not say which. So there is an exchange for each,
// with the same nonce, and, as their slots share a salt, with the same messages.
type SCRAM struct {
	control  *Control
	protocol string
	binding  Binding
	nonce    string
	username string
	account  *raftpb.Account // nil: nobody's login
	tries    []*try
	messages [2]string // that have been exchanged: the client's and the answer
}

// try is one that the client may mean.
type try struct {
	slot     *slot.Slot // nil: nobody's
	name     string     // of an app password
	exchange *scram.ServerConversation
}

// Binding is what an exchange can be bound to, so that nobody stands between (RFC 5802, 6).
type Binding struct {
	Type string // "tls-exporter" (RFC 9266), "tls-unique" (RFC 5929); "": the connection has nothing
	Data []byte
	Plus bool // the client has chosen the -PLUS mechanism: it has to be bound
}

// SCRAM begins one. Errors: ErrNoSCRAM.
func (c *Control) SCRAM(protocol string, b Binding) (*SCRAM, error) {
	if c.iterations == 0 {
		return nil, ErrNoSCRAM
	}
	return &SCRAM{control: c, protocol: protocol, binding: b, nonce: rand.Text()}, nil
}

// Username is whom the client has named; "" before.
func (s *SCRAM) Username() string { return s.username }

// First answers the client's first message. Who does not exist, or can't log in in this way, gets an answer too, and always the same salt.
// Errors: ErrMalformed, ErrUnsure, ctx's.
func (s *SCRAM) First(ctx context.Context, message string) (answer string, err error) {
	// Whom it names only the library knows.
	named, err := s.begin(scram.StoredCredentials{KeyFactors: scram.KeyFactors{Iters: 1}})
	if err != nil {
		return "", err
	}
	if _, err := named.Step(message); err != nil { // what it says is for nobody: it repeats what the client sent
		return "", ErrMalformed
	}
	s.username = named.Username()
	if id := named.AuthzID(); id != "" && id != s.username { // nobody here may act for somebody else
		return "", keyring.ErrWrongPassword
	}
	if err := s.find(ctx); err != nil {
		return "", err
	}
	for _, t := range s.tries {
		if answer, err = t.exchange.Step(message); err != nil {
			return "", ErrMalformed
		}
	}
	s.messages = [2]string{message, answer}
	return answer, nil
}

// begin makes the exchange that checks one password.
func (s *SCRAM) begin(stored scram.StoredCredentials) (*scram.ServerConversation, error) {
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return nil, err
	}
	server.WithNonceGenerator(func() string { return s.nonce })
	to := scram.ChannelBinding{Type: scram.ChannelBindingType(s.binding.Type), Data: s.binding.Data}
	if s.binding.Plus {
		return server.NewConversationWithChannelBindingRequired(to), nil
	}
	return server.NewConversationWithChannelBinding(to), nil
}

// find finds what the user's proof is checked by. It takes as long for one that does not exist: the directory is asked for its newest in
// any case.
func (s *SCRAM) find(ctx context.Context) error {
	c := s.control
	if err := c.Current(ctx); err != nil {
		return err
	}
	a, err := c.findHere(s.username)
	if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, raftstore.ErrAddress) {
		return err
	}
	if err == nil {
		s.account = a
		if err := s.add(a.Slots); err != nil {
			return fmt.Errorf("account %d: %w", a.Number, err)
		}
	}
	if len(s.tries) > 0 {
		return nil
	}
	salt, err := c.saltOf(ctx, s.username)
	if err != nil {
		return err
	}
	var stored [sha256.Size]byte
	rand.Read(stored[:]) // never fails
	nobody, err := s.begin(scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: int(c.iterations)}, StoredKey: stored[:], ServerKey: stored[:],
	})
	s.tries = []*try{{exchange: nobody}}
	return err
}

// add adds the slots that the client may prove to know the password of.
func (s *SCRAM) add(records []*raftpb.Slot) error {
	for _, r := range records {
		if r.Kind != slot.SCRAM.String() || !goodFor(r, s.protocol) {
			continue
		}
		sl, err := slot.Unmarshal(r.Record)
		if err != nil {
			return err
		}
		if len(s.tries) > 0 && (sl.Salt != s.tries[0].slot.Salt || sl.Params != s.tries[0].slot.Params) {
			continue // the client can't be told both
		}
		exchange, err := s.begin(scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(sl.Salt[:]), Iters: int(sl.Params.Passes)},
			StoredKey:  sl.SCRAM.StoredKey[:], ServerKey: sl.SCRAM.ServerKey[:],
		})
		if err != nil {
			return err
		}
		s.tries = append(s.tries, &try{sl, r.Name, exchange})
	}
	return nil
}

// saltOf is the salt of a user, whether there is one or not: the same on every node, always, and for each user another (RFC 5802, 9).
func (c *Control) saltOf(ctx context.Context, username string) ([]byte, error) {
	local, domain, err := raftstore.SplitAddress(username)
	if err == nil {
		username = local + "@" + domain // however it is written
	}
	key, err := c.directory.Secret(ctx, "mailraft scram salt")
	if err != nil {
		return nil, err
	}
	defer clear(key)
	h := hmac.New(sha256.New, key)
	io.WriteString(h, username)
	return h.Sum(nil)[:len(slot.Slot{}.Salt)], nil
}

// Final checks the client's last message, and starts a session for these readers as Unlock does. Errors: keyring.ErrWrongPassword, ErrMalformed, those of
// keyring.Open.
func (s *SCRAM) Final(message string, readers ...uint32) (answer string, a *raftpb.Account, session *keyring.Session, err error) {
	without, proof, found := cutProof(message)
	if !found {
		return "", nil, nil, ErrMalformed
	}
	var proved *try
	for _, t := range s.tries {
		said, err := t.exchange.Step(message)
		if err == nil && t.exchange.Valid() && t.slot != nil {
			answer, proved = said, t
		}
	}
	if proved == nil {
		return "", nil, nil, keyring.ErrWrongPassword
	}
	_, bare, _ := strings.Cut(s.messages[0], ",")
	_, bare, _ = strings.Cut(bare, ",") // behind the header (RFC 5802, 7)
	key, err := proved.slot.SCRAM.ClientKey(bare+","+s.messages[1]+","+without, proof)
	if err != nil {
		return "", nil, nil, err
	}
	defer clear(key)
	c, number := s.control, uint64(s.account.Number)
	identity, err := slot.Unwrap(proved.slot, number, key)
	if err != nil {
		return "", nil, nil, err
	}
	if now, err := c.findHere(s.account.Address()); err != nil || !has(now, proved.slot) { // changed meanwhile
		identity.Wipe()
		return "", nil, nil, keyring.ErrWrongPassword
	}
	if session, err = c.keyring.OpenSlot(number, proved.slot, identity, 0, readers...); err != nil {
		return "", nil, nil, err
	}
	a, session, err = c.settled(s.account, session)
	if err == nil && session == nil { // the slot is gone: the password was just changed
		err = keyring.ErrWrongPassword
	}
	if err != nil {
		return "", nil, nil, err
	}
	if proved.name != "" {
		c.used(a, proved.name)
	}
	return answer, a, session, nil
}

// has tells whether a slot is one of the account's.
func has(a *raftpb.Account, s *slot.Slot) bool {
	record := s.Marshal()
	return slices.ContainsFunc(a.Slots, func(r *raftpb.Slot) bool { return bytes.Equal(r.Record, record) })
}

// makesSCRAM tells whether passwords get a slot for it: it is not turned off, and every node knows it.
func (c *Control) makesSCRAM() bool { return c.iterations != 0 && c.store.Knows(machine.MoreSlots) }

// ProvesPassword tells whether a slot is the one by which SCRAM proves the account's own password.
func ProvesPassword(r *raftpb.Slot) bool { return r.Kind == slot.SCRAM.String() && r.Name == "" }

// WrapSCRAM wraps an account's private key for who proves a password by SCRAM, under that number; none where it is turned off, or a node does not
// know it yet. It shares salt and iterations with the slots of that kind that the account has. It takes a turn's time.
func (c *Control) WrapSCRAM(ctx context.Context, id seal.Identity, a *raftpb.Account, password []byte, number uint32) ([]*raftpb.Slot, error) {
	if !c.makesSCRAM() {
		return nil, nil
	}
	params := slot.Params{Passes: c.iterations}
	binding := slot.Binding{Account: uint64(a.Number), Slot: uint64(number), Kind: slot.SCRAM}
	others, err := Slots(a)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(others, func(sl *slot.Slot) bool { return sl.Kind == slot.SCRAM }); i >= 0 {
		binding.Salt, params = others[i].Salt[:], others[i].Params
	} else if binding.Salt, err = c.saltOf(ctx, a.Address()); err != nil {
		return nil, err
	}
	wrapped, err := slot.Wrap(id, password, params, binding)
	if err != nil {
		return nil, err
	}
	return []*raftpb.Slot{{Id: number, Kind: slot.SCRAM.String(), Record: wrapped.Marshal()}}, nil
}

// cutProof cuts the proof off a client's last message (RFC 5802, 7: it is the last attribute).
func cutProof(message string) (without string, proof []byte, found bool) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 {
		return "", nil, false
	}
	proof, err := base64.StdEncoding.DecodeString(message[i+len(",p="):])
	return message[:i], proof, err == nil
}
