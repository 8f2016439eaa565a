package raftpb

// Pinned tells whether the account's messages are sealed to a key of its owner's, whose private key no slot has.
func (a *Account) Pinned() bool { return a.GetLoginRecipient() != "" }

// Unlocks is the public key of the private key that the account's slots have.
func (a *Account) Unlocks() string {
	if a.Pinned() {
		return a.GetLoginRecipient()
	}
	return a.GetRecipient()
}
