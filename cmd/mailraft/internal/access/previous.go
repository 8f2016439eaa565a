package access

import (
	"errors"
	"log/slog"
	"syscall"

	"mailraft/fs/seal"
	"mailraft/raftstore"
	"mailraft/raftstore/tree"
)

// Previous is for keyring.Config: it opens the private keys that an account had before, as long as contents may be sealed to them. One that can't
// be opened keeps nobody from logging in: what is sealed to the others can be read.
func Previous(store *raftstore.Store, log *slog.Logger) func(number uint64, current seal.Identity) ([]seal.Identity, error) {
	return func(number uint64, current seal.Identity) (ids []seal.Identity, err error) {
		a, err := store.Directory().Account(tree.Account(number))
		if errors.Is(err, syscall.ENOENT) || err == nil && a.Recipient != current.Recipient().String() {
			return nil, nil // it was removed, or got another key, since its slot was read: the session ends
		}
		if err != nil {
			return nil, err
		}
		for _, p := range a.PreviousKeys {
			id, err := seal.OpenIdentity(p.Sealed, current)
			if err != nil {
				log.Error("a previous key of an account can't be opened", "account", a.Address(), "key", p.Number, "error", err)
				continue
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
}
