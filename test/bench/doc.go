// Command bench measures Mailraft against the bare disk and its peers: what `make bench` runs. It prints a table of what was to
// be reached, what was, and in which ratio to what was measured beside it.
//
//	go run ./test/bench -mailraft bin/mailraft [-quick] [-run REGEXP] [-dir FOLDER]
//
// It is a program of several processes. The first starts the daemon under test, mounts the peers, and does nothing while
// something is measured. Loads are driven by a second one (drive.go), as the mail user and without Go's preemption signals,
// which a FUSE mount answers dearly. A third serves an in-memory file system that does nothing (floor.go): the fastest that
// go-fuse can be.
//
// Rates of a machine change from minute to minute. So what is compared is measured in turns, round by round; figures are medians
// of the rounds, ratios medians of each round's ratio.
//
// It needs root, /dev/fuse, some GiB on the disk to be measured, and Debian's gocryptfs, which it installs if it is missing.
package main
