// Package disk is a disk with a volatile cache and a file system that promises no more than POSIX does: what was written
// is visible at once, and survives a power cut only when it was synced. It lives in memory and is served over FUSE, by a
// process of its own: a Go program must not use a mount that it serves itself.
//
// What a sync promises here, as on the least obliging file system that a program has to reckon with:
//
//   - fsync or fdatasync of a file keeps its data and size, not its name, however new it is;
//   - fsync of a directory keeps every change of the names in it so far, and what each of these rests on (a rename comes to the
//     disk in both its directories or in neither), but no file's data;
//   - what was not synced is lost whole, or (a torn cut) comes through in part, in any order, in blocks of 4096 octets and
//     some of them in sectors of 512.
//
// Permissions, owners and times are not part of the model: they are always kept.
package disk
