package raftpb

// Address is the account's own address (RFC 5321, 2.3.11).
func (a *Account) Address() string { return a.GetLocalPart() + "@" + a.GetDomain() }
