package login

import (
	"context"
	"crypto/rand"

	"mailraft/fs/keyring"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

// decoy is a slot that no password opens, for users that do not exist.
type decoy struct {
	gate *slot.Gate
	slot *slot.Slot
}

func newDecoy(gate *slot.Gate) (*decoy, error) {
	id, err := seal.GenerateIdentity(seal.X25519)
	if err != nil {
		return nil, err
	}
	defer id.Wipe()
	var password [32]byte
	rand.Read(password[:])
	// The parameters are in the record: it is made cheaply and asks for the usual work when it is tried.
	cheap := slot.Params{Passes: 1, Memory: slot.MinMemory, Threads: 1}
	s, err := slot.Wrap(id, password[:], cheap, slot.Binding{Slot: 1, Kind: slot.Password})
	if err != nil {
		return nil, err
	}
	s.Params = slot.DefaultParams
	return &decoy{gate, s}, nil
}

// try takes the time of a wrong password and answers keyring.ErrWrongPassword, or ctx's error.
func (d *decoy) try(ctx context.Context, from string, password []byte) error {
	id, err := d.gate.Unwrap(ctx, from, d.slot, 0, password)
	if err == nil {
		id.Wipe()
		err = keyring.ErrWrongPassword
	}
	return err
}
