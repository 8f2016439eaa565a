// Package harden takes from a process what it does not need: core dumps, being looked into by others, and new privileges by
// exec. The daemon holds keys and the proxies hold passwords for moments, so both do it before anything else.
package harden
