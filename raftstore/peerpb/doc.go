// Package peerpb holds the protobuf form of what nodes ask each other.
package peerpb

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative peer.proto
