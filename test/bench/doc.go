// Command bench measures Mailraft against the bare disk and its peers: what `make bench` runs. It prints a table of what was to
// be reached, what was, and in which ratio to what was measured beside it.
//
//	go run ./test/bench -mailraft bin/mailraft [-quick] [-run REGEXP] [-dir FOLDER] [-shared FOLDER] [-million=false]
//
// It is a program of several processes. The first starts the daemon under test, mounts the peers, and does nothing while
// something is measured. Loads are driven by a second one (drive.go), as the mail user and without Go's preemption signals,
// which a FUSE mount answers dearly. A third serves an in-memory file system that does nothing (floor.go): the fastest that
// go-fuse can be.
//
// Rates of a machine change from minute to minute. So what is compared is measured in turns, round by round; figures are medians
// of the rounds, ratios medians of each round's ratio. A target that names a size is not judged by a smaller one.
//
// The part peers drives all file systems by a program that is not ours, mailbench, and takes the scripts that bring GlusterFS and
// gocryptfs up from beside it: both lie in a folder outside the project, and without that folder the part is left out.
//
// It ends with an error when something could not be measured, not when a target was missed. It needs root, /dev/fuse, the go command,
// some 15 GiB on the disk to be measured, and Debian's gocryptfs and glusterfs-server, which are installed if they are missing.
package main
