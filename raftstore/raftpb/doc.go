// Package raftpb holds the protobuf form of what is replicated. docs/format.md describes it.
package raftpb

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative command.proto
