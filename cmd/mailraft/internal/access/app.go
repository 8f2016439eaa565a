package access

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Protocols are what app passwords may be good for.
var Protocols = []string{"imap", "pop3", "submission"}

// usedEvery is how exactly it is known when an app password was used last: each time is a write to the directory.
const usedEvery = time.Hour

// openApp tries an app password on the record's slots that are good for the protocol; nil when it is none of them. It needs no derivation, so
// it does not wait for a turn; what is none of them is tried as a password, and so takes as long as any wrong one.
func (c *Control) openApp(a *raftpb.Account, password []byte, protocol string, lifetime time.Duration, readers []uint32) (*keyring.Session, error) {
	secret := passwords.Secret(password)
	if secret == nil || protocol == "" {
		return nil, nil
	}
	defer clear(secret)
	for _, r := range a.Slots {
		if r.Kind != slot.App.String() || !goodFor(r, protocol) {
			continue
		}
		s, err := slot.Unmarshal(r.Record)
		if err != nil {
			return nil, err
		}
		identity, err := slot.Unwrap(s, uint64(a.Number), secret)
		if err != nil {
			continue
		}
		session, err := c.keyring.OpenSlot(uint64(a.Number), s, identity, lifetime, readers...)
		if err == nil {
			c.used(a, r.Name)
		}
		return session, err
	}
	return nil, nil
}

// errNoted says that there is nothing to be noted.
var errNoted = errors.New("noted already")

// goodFor tells whether what opens the slot logs in to the protocol.
func goodFor(r *raftpb.Slot, protocol string) bool {
	return len(r.Protocols) == 0 || slices.Contains(r.Protocols, protocol)
}

// used notes when an app password was used last, unless that is known exactly enough: in its own time, nobody's login waits for that.
func (c *Control) used(a *raftpb.Account, name string) {
	is := func(r *raftpb.Slot) bool {
		return r.Kind == slot.App.String() && r.Name == name && time.Since(time.Unix(0, r.LastUsed)) > usedEvery
	}
	if !slices.ContainsFunc(a.Slots, is) {
		return
	}
	c.noting.Go(func() {
		ctx, cancel := context.WithTimeout(c.life, patience)
		defer cancel()
		err := c.directory.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
			i := slices.IndexFunc(now.Slots, is)
			if i < 0 {
				return errNoted
			}
			now.Slots[i].LastUsed = time.Now().Truncate(usedEvery).UnixNano()
			return nil
		})
		if err != nil && err != errNoted {
			c.log.Debug("when an app password was used is not noted", "account", a.Number, "error", err)
		}
	})
}
