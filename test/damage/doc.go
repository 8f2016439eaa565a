// Package damage gives the program disks that are full, read-only, of another version, or damaged in one octet. It has to say so,
// and never to panic, to lose what it acknowledged without a word, or to serve a wrong octet.
//
// The tests need root and /dev/fuse.
package damage
