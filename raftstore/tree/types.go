package tree

import (
	"syscall"

	"mailraft/raftstore/machine"
)

// Account is an account's number, given by the directory and never used again: 1 to MaxAccount. The number 0 is not an
// account: its inode numbers stand for the mount's root and its domains (package fs).
type Account uint32

// MaxAccount is the greatest account number; it leaves an inode number's sign bit free.
const MaxAccount Account = 1<<28 - 1

// Ino is an inode number, unique in the whole cluster: the account's number above the number within the account. It stays
// the same when the account moves to another shard, and is what stat(2) shows as st_ino.
type Ino uint64

const (
	localBits = 35
	maxLocal  = 1<<localBits - 1

	rootLocal  = 1 // an account's root directory
	firstLocal = 8 // the first number that is given to anything else; 2, 3, 4: cur, new and tmp of INBOX
)

// MakeIno makes an inode number of an account's number and the number within the account.
func MakeIno(a Account, local uint64) Ino { return Ino(uint64(a)<<localBits | local&maxLocal) }

// RootIno is the inode number of the account's root directory, its Maildir++ home.
func RootIno(a Account) Ino { return MakeIno(a, rootLocal) }

// Account is the account that the inode belongs to.
func (i Ino) Account() Account { return Account(uint64(i) >> localBits) }

// Local is the inode's number within its account.
func (i Ino) Local() uint64 { return uint64(i) & maxLocal }

// UID is a message's unique identifier in its folder (RFC 9051, 2.3.1.1); 0: not a message.
type UID uint32

// ModSeq is a modification sequence (RFC 7162): the Raft index of a change, and the account's ModSeqBase.
type ModSeq uint64

// Role is what a directory is to the Maildir++ that it is part of. It follows from the name that the directory is made
// under and never changes: a rename that would change it is refused with EXDEV.
type Role uint8

const (
	RolePlain  Role = iota
	RoleRoot        // an account's home, which is also the folder INBOX
	RoleFolder      // ".Name" in the home
	RoleCur         // cur/ of a folder
	RoleNew         // new/ of a folder
	RoleTmp         // tmp/ of a folder: nothing in it is ever replicated, package fs stages it on its node
)

// IsFolder tells whether the directory is an IMAP folder.
func (r Role) IsFolder() bool { return r == RoleRoot || r == RoleFolder }

// HoldsMessages tells whether files in the directory are messages, which have UIDs.
func (r Role) HoldsMessages() bool { return r == RoleCur || r == RoleNew }

func roleOf(parent Role, name string) Role {
	if parent.IsFolder() {
		switch name {
		case "cur":
			return RoleCur
		case "new":
			return RoleNew
		case "tmp":
			return RoleTmp
		}
	}
	if parent == RoleRoot && len(name) > 1 && name[0] == '.' {
		return RoleFolder
	}
	return RolePlain
}

// isMessage tells whether a regular file of that name is a message in a directory of that role (maildir(5): names that
// begin with a dot are not).
func isMessage(dir Role, mode uint32, name string) bool {
	return dir.HoldsMessages() && mode&syscall.S_IFMT == syscall.S_IFREG && name[0] != '.'
}

// Stat is what stat(2) answers of an inode.
type Stat struct {
	Mode       uint32 // S_IFMT and permissions
	UID, GID   uint32 // owner
	Nlink      uint32
	Size       uint64 // octets: of the message, not of its sealed form; a symbolic link's target
	SealedSize uint64 // octets stored
	Mtime      int64  // nanoseconds since the epoch, as the others
	Ctime      int64
	Atime      int64
}

// IsDir tells whether it is a directory.
func (s *Stat) IsDir() bool { return s.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// IsRegular tells whether it is a regular file.
func (s *Stat) IsRegular() bool { return s.Mode&syscall.S_IFMT == syscall.S_IFREG }

// LinkName is one name of an inode.
type LinkName struct {
	Parent Ino
	Name   string
}

// Inode is one stored inode.
type Inode struct {
	Ino Ino
	Stat
	Links   []LinkName // its names: one for a directory (none for an account's root), Nlink of them for anything else
	Content uint64     // local number of the content; 0: empty
	Key     uint64     // number of the key pair that the content is sealed to (raftpb.Account)
	Target  string     // symbolic link
	Xattrs  uint32     // how many extended attributes it has

	// directories
	Role    Role
	Entries uint64 // directory entries in it
	Subdirs uint32 // of them directories
	// folders (Role.IsFolder)
	UIDValidity   uint32
	UIDNext       UID
	HighestModSeq ModSeq
	Messages      uint64 // messages in its cur and new
	Vanished      uint64 // tombstones kept
	VanishedFloor ModSeq // tombstones up to this one have been dropped
}

// DirEntry is one name in a directory, with what readdir and the folder's index show of the inode behind it.
type DirEntry struct {
	Name   string
	Ino    Ino
	Stat   Stat
	UID    UID    // 0: not a message
	ModSeq ModSeq // of the message's last change
}

// AccountRecord is the account's own counters.
type AccountRecord struct {
	Account     Account
	NextLocal   uint64 // the next inode number to give out
	Bytes       uint64 // sum of the files' sizes and of the attributes' values
	Files       uint64 // inodes, but not the home and its cur, new and tmp
	QuotaBytes  uint64 // 0: none
	QuotaFiles  uint64 // 0: none
	UIDValidity uint32 // the last one given to a folder
	ModSeqBase  uint64 // MODSEQs are so much greater than the index: the account was imported with greater ones

	// Of an account that was moved between shards, or is being moved: the directory counts its moves.
	Move   uint64 // the last one that this shard knows of; 0: none
	Frozen uint32 // the shard that the account goes to: nothing changes here any more; 0: it stays

	Fence uint64 // contents that are sealed to a key pair of a lower number are named no more
}

// Result is what applying a command answers. Its Value is: ReserveInodes, the first number; Create, Link, Rename, the
// inode; ReapOrphans, the contents dropped.
type Result = machine.Result

// Limits of names and links, as ext4's where it has one.
const (
	MaxName    = 255  // octets
	MaxTarget  = 4095 // octets of a symbolic link
	MaxLinks   = 1000 // names of one file: EMLINK
	MaxXattr   = 64 << 10
	MaxXattrs  = 128     // of one inode: ENOSPC
	MaxInline  = 1 << 20 // octets of a content that comes within Create or SetContent
	MaxPiece   = 512 << 10
	MaxContent = 4 << 30 // octets of a message: EFBIG
	MaxReserve = 4096
	maxTombs   = 20000 // tombstones kept of a folder
)

// ChangeKind says what an applied command did to a name or an inode.
type ChangeKind uint8

const (
	EntryAdded   ChangeKind = iota + 1 // Parent/Name now leads to Ino
	EntryRemoved                       // Parent/Name no longer leads to Ino
	ContentChanged
	AttrChanged
	AccountAdded
	AccountRemoved
	AccountFrozen   // it goes to another shard, and changes there from now on
	ContentResealed // the same message, sealed to another key

	lastChange = ContentResealed
)

// Change is one effect of a command, for those who cache or watch.
type Change struct {
	Kind   ChangeKind
	Parent Ino
	Name   string
	Ino    Ino
	Dir    bool // the inode is a directory
}

// FolderChange says that a folder's messages changed.
type FolderChange struct {
	Folder Ino
	ModSeq ModSeq
}

// Event is what one applied command changed.
type Event struct {
	// Replaced says that it was no command: the state that is read from now on is another one, and anything in it may have changed:
	// of all the shard, or of Account alone if that is not 0. A snapshot came from the leader, or the shard is read on another node, or
	// what changed there has not been heard of for a while. Whoever caches any of it forgets that; whoever watches looks again. The rest
	// is empty then, but for Shard.
	Replaced bool
	Shard    uint32 // of what was replaced; filled in by package raftstore

	Index   uint64
	Session uint64 // the proposer's
	Account Account
	Changes []Change
	Folders []FolderChange
}
