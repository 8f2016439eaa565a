// Package mailcopy copies an account's mail out of its Maildir++ on the mount, to a plain maildir or to mbox files, and into it from
// these. It is ordinary maildir software: all it uses is system calls on paths, and it must never run in the process that serves the
// mount.
//
// What is written lies beside its place until it is whole, so a copy that was cut off does not look like one. Both ways may be run
// again after that, and go on: a message that has arrived is known by its name, and does not come twice.
package mailcopy
