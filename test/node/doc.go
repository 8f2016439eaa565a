// Package node runs the real program as its users do: a daemon with its proxies in processes of their own, on ports of the
// loopback, with a data folder and a mount in a temporary folder. It knows the program's command line and its log, nothing of
// its inside.
//
// A node that a test leaves running is stopped when the test ends, and what it leaves behind then fails the test: a mount, a
// process, a panic, an error in the log that the test did not announce.
//
// Tests need root, /dev/fuse and the go tool.
package node
