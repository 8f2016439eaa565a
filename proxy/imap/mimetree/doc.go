// Package mimetree finds the parts of a MIME message (RFC 2045, 2046) and where they lie in it, in one pass over a stream, without
// keeping it.
//
// It takes anything for a message: there is no malformed one, only parts with surprising ends. How deep and how many parts it
// looks at is limited, so hostile messages cost no more than their length. It never changes or drops a byte: all it hands out
// are places.
package mimetree
