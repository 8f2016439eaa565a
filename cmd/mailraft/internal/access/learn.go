package access

import (
	"bytes"
	"context"
	"slices"
	"time"

	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// learnTime bounds making a slot.
const learnTime = time.Minute

// learn makes the slot that SCRAM needs of a password that was set before there was SCRAM, as it opens the account: else a client that takes the
// strongest mechanism that is offered would be told that the password is wrong. The login does not wait for it.
func (c *Control) learn(a *raftpb.Account, password []byte) {
	if slices.ContainsFunc(a.Slots, ProvesPassword) || !c.makesSCRAM() {
		return
	}
	c.mu.Lock()
	_, already := c.learning[a.Number]
	c.learning[a.Number] = struct{}{}
	c.mu.Unlock()
	if already {
		return
	}
	id, unlocked := c.keyring.Identity(uint64(a.Number))
	password = bytes.Clone(password)
	c.noting.Go(func() {
		defer clear(password)
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.learning, a.Number)
		}()
		if !unlocked {
			return
		}
		ctx, cancel := context.WithTimeout(c.life, learnTime)
		defer cancel()
		made, err := c.WrapSCRAM(ctx, id, a, password, NextSlot(a))
		if err == nil {
			err = c.directory.UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
				if !sameSlots(now, a) { // the password may be another one
					return errNoted
				}
				now.Slots = append(now.Slots, made...)
				return nil
			})
		}
		if err != nil && err != errNoted {
			c.log.Debug("an account can't log in by SCRAM yet", "account", a.Number, "error", err)
		}
	})
}
