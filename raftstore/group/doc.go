// Package group replicates one state machine (package machine) with Raft: its log is a raft-wal, its state a Pebble store
// whose own write-ahead log is off, because the Raft log is one already. The index of the last applied entry stands in the
// same batch as what the entry changed, so after a crash just the entries are applied again that Pebble had not flushed.
//
// A group never looks into a command beyond its request id and version, and never into the machine's records.
package group
