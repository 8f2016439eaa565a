// Package remotepb is the form on the wire of package remote.
package remotepb

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative remote.proto
