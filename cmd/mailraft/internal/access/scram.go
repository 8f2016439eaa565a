package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/xdg-go/scram"

	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
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
type SCRAM struct {
	control  *Control
	exchange *scram.ServerConversation
	username string
	account  *raftpb.Account // nil: nobody's login
	slot     *slot.Slot
	messages [2]string // that have been exchanged: the client's and the answer
}

// Binding is what an exchange can be bound to, so that nobody stands between (RFC 5802, 6).
type Binding struct {
	Type string // "tls-exporter" (RFC 9266), "tls-unique" (RFC 5929); "": the connection has nothing
	Data []byte
	Plus bool // the client has chosen the -PLUS mechanism: it has to be bound
}

// SCRAM begins one. Errors: ErrNoSCRAM.
func (c *Control) SCRAM(ctx context.Context, b Binding) (*SCRAM, error) {
	if c.iterations == 0 {
		return nil, ErrNoSCRAM
	}
	s := &SCRAM{control: c}
	server, err := scram.SHA256.NewServer(func(username string) (scram.StoredCredentials, error) { return s.find(ctx, username) })
	if err != nil {
		return nil, err
	}
	to := scram.ChannelBinding{Type: scram.ChannelBindingType(b.Type), Data: b.Data}
	if b.Plus {
		s.exchange = server.NewConversationWithChannelBindingRequired(to)
	} else {
		s.exchange = server.NewConversationWithChannelBinding(to)
	}
	return s, nil
}

// Username is whom the client has named; "" before.
func (s *SCRAM) Username() string { return s.username }

// First answers the client's first message. Who does not exist, or can't log in in this way, gets an answer too, and always the same salt.
// Errors: ErrMalformed, ErrUnsure, ctx's.
func (s *SCRAM) First(message string) (answer string, err error) {
	answer, err = s.exchange.Step(message)
	switch {
	case errors.Is(err, errFind):
		return "", err
	case err != nil: // what it says is for nobody: it repeats what the client sent
		return "", ErrMalformed
	case s.exchange.AuthzID() != "" && s.exchange.AuthzID() != s.username: // nobody here may act for somebody else
		return "", keyring.ErrWrongPassword
	}
	s.messages = [2]string{message, answer}
	return answer, nil
}

// errFind marks what kept an account from being found.
var errFind = errors.New("login by SCRAM")

// find finds what the user's proof is checked by. It takes as long for one that does not exist: the directory is asked for its newest in
// any case.
func (s *SCRAM) find(ctx context.Context, username string) (scram.StoredCredentials, error) {
	c := s.control
	s.username = username
	if err := c.Current(ctx); err != nil {
		return scram.StoredCredentials{}, fmt.Errorf("%w: %w", errFind, err)
	}
	salt, err := c.fakeSalt(ctx, username)
	if err != nil {
		return scram.StoredCredentials{}, fmt.Errorf("%w: %w", errFind, err)
	}
	var stored [sha256.Size]byte
	rand.Read(stored[:]) // never fails
	fake := scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: int(c.iterations)}, StoredKey: stored[:], ServerKey: stored[:],
	}
	a, err := c.findHere(username)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, raftstore.ErrAddress):
		return fake, nil
	case err != nil:
		return scram.StoredCredentials{}, fmt.Errorf("%w: %w", errFind, err)
	}
	slots, err := Slots(a)
	if err != nil {
		return scram.StoredCredentials{}, fmt.Errorf("%w: %w", errFind, err)
	}
	for _, sl := range slots {
		if sl.Kind == slot.SCRAM {
			s.account, s.slot = a, sl
			return scram.StoredCredentials{
				KeyFactors: scram.KeyFactors{Salt: string(sl.Salt[:]), Iters: int(sl.Params.Passes)},
				StoredKey:  sl.SCRAM.StoredKey[:], ServerKey: sl.SCRAM.ServerKey[:],
			}, nil
		}
	}
	return fake, nil
}

// fakeSalt is that of a user who has none: the same on every node, always, and for each user another (RFC 5802, 9).
func (c *Control) fakeSalt(ctx context.Context, username string) ([]byte, error) {
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

// Final checks the client's last message, and starts a session as Unlock does. Errors: keyring.ErrWrongPassword, ErrMalformed, those of
// keyring.Open.
func (s *SCRAM) Final(message string) (answer string, a *raftpb.Account, session *keyring.Session, err error) {
	without, proof, found := cutProof(message)
	if !found {
		return "", nil, nil, ErrMalformed
	}
	answer, err = s.exchange.Step(message)
	if err != nil || !s.exchange.Valid() || s.account == nil {
		return "", nil, nil, keyring.ErrWrongPassword
	}
	_, bare, _ := strings.Cut(s.messages[0], ",")
	_, bare, _ = strings.Cut(bare, ",") // behind the header (RFC 5802, 7)
	key, err := s.slot.SCRAM.ClientKey(bare+","+s.messages[1]+","+without, proof)
	if err != nil {
		return "", nil, nil, err
	}
	defer clear(key)
	c, number := s.control, uint64(s.account.Number)
	identity, err := slot.Unwrap(s.slot, number, key)
	if err != nil {
		return "", nil, nil, err
	}
	if session, err = c.keyring.OpenSlot(number, s.slot, identity, 0); err != nil {
		return "", nil, nil, err
	}
	a, session, err = c.settled(s.account, session)
	if err == nil && session == nil { // the slot is gone: the password was just changed
		err = keyring.ErrWrongPassword
	}
	if err != nil {
		return "", nil, nil, err
	}
	return answer, a, session, nil
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
