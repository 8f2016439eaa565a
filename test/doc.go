// Package test is the system from outside: the real program in real processes, with real clients, real kills and, where there is
// a folder of it, real mail. Its tests are named after what they promise. Package message makes the messages, package node the
// daemons, package client speaks the protocols.
//
// The tests need root, /dev/fuse, and the mail programs of Debian that they name when they miss one.
package test
