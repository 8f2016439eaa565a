// Package message makes the messages that the tests send: well-formed ones, and those that no sender should make but some
// do. They are the same in every run. It also reads a folder of real messages, when there is one.
//
// It knows nothing of Mailraft: what must come back is decided here, from the RFCs alone.
package message
