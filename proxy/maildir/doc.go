// Package maildir is the mail store as the protocol servers see it: a Maildir++ tree on a mount, whose UIDs and modification
// sequences are read from one index file a folder.
//
// It writes new messages (Delivery), reads the index (ReadIndex, ReadIndexSince), understands message file names (Message) and
// folders, and presents messages with the line ends that the protocols ask for (CRLFReader). It must never need to know how the
// mount stores or replicates mail: all it uses is system calls on paths, and it works on a plain directory too.
//
// System calls are made directly where package os would add some: on a FUSE mount os.OpenFile registers the file with the
// network poller, which sends the mount a request that regular files have no use for.
package maildir
