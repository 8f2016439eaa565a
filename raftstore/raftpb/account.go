package raftpb

// Address is the account's own address (RFC 5321, 2.3.11).
func (a *Account) Address() string { return a.GetLocalPart() + "@" + a.GetDomain() }

// IsMoving tells whether the account goes to another shard, or has left something in the one where it was.
func (a *Account) IsMoving() bool { return a.MovingTo != 0 || a.MovedFrom != 0 }

// IsResealed tells whether contents of the account may be sealed to a key pair that it had before, and are sealed to the new one.
func (a *Account) IsResealed() bool { return len(a.PreviousKeys) > 0 }

// OldestKey is the least number of a key pair to which contents may be sealed that the owner can open.
func (a *Account) OldestKey() uint64 {
	oldest := a.Key
	for _, p := range a.PreviousKeys {
		oldest = min(oldest, p.Number)
	}
	return oldest
}

// Opens tells whether the owner can open what is sealed to the key pair of that number.
func (a *Account) Opens(number uint64) bool {
	if number == a.Key {
		return true
	}
	for _, p := range a.PreviousKeys {
		if number == p.Number {
			return true
		}
	}
	return false
}

// Pinned tells whether the account's messages are sealed to a key of its owner's, whose private key no slot has.
func (a *Account) Pinned() bool { return a.GetLoginRecipient() != "" }

// Unlocks is the public key of the private key that the account's slots have.
func (a *Account) Unlocks() string {
	if a.Pinned() {
		return a.GetLoginRecipient()
	}
	return a.GetRecipient()
}
