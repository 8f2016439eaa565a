// Package keyring holds the private keys of the accounts that are unlocked on this node: in locked memory only, each as long as
// somebody is logged in, plus a short grace.
//
// An account is unlocked while it has sessions (a login through a proxy, or an admin's unlock for some time) and for the
// grace after the last one ended. Then, or when it is locked by hand, its key is wiped (as far as [seal.Identity.Wipe] can)
// and the hooks are told, so that the mount drops what the kernel has cached of it.
//
// Of a login that another server asked for, nobody tells that it is over: such a session lasts while the account's files are
// used on this node, see [Session.WhileUsed].
//
// A session lasts no longer than the slot that opened it: see [Keyring.Keep].
//
// A session may be bound to user ids. Then it lets only their processes read what the key opens: see [Keyring.Readable]. The key itself
// is one, whoever may read.
//
// While an account is unlocked, a login with a password that opened it before is checked with a keyed hash instead of
// Argon2id. The hash's key is random and lives only in this process; what was hashed is forgotten when the account is
// locked. The hash covers the slot's record, so a changed or removed slot never passes by it.
//
// The package must never write a key, a password or a hash of one anywhere.
package keyring
