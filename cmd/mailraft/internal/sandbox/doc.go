// Package sandbox takes from a proxy, once it has all that it needs, whatever a proxy never does: Landlock leaves it the mail and
// nothing else of the file system, a seccomp filter leaves it the system calls of a server that accepts connections, reads and
// writes files, and asks the node. What strangers may make of it then, by sending what it parses wrongly, is little.
//
// Neither can be taken back, by nobody. Package harden comes before it, at a process's start.
package sandbox
