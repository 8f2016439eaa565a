// Package cli is the mailraft program as people and scripts see it: a file for each command. The commands speak to a running
// daemon over its admin socket; what is known at once is said at once, and errors say what to do.
package cli
