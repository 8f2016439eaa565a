package seal

import (
	"errors"
	"fmt"
)

// What sealing and opening answer; test with errors.Is. Errors of the underlying reader or writer are passed on as they
// are and match none of these.
var (
	// ErrCorrupt: the sealed bytes are not what a Writer made: damaged, cut short, longer than they should be, or forged.
	ErrCorrupt = errors.New("sealed content is corrupt")
	// ErrSize: the content is whole, but its message has another size than the caller expected. It is an ErrCorrupt too.
	ErrSize = fmt.Errorf("%w: the message has another size than recorded", ErrCorrupt)
	// ErrWrongKey: none of the identities opens this content.
	ErrWrongKey = errors.New("content is sealed to another key")
	// ErrWiped: the identity was wiped (its account was locked), or never held a key.
	ErrWiped = errors.New("identity is wiped")
	// ErrKey: a recipient or identity is malformed, or of a kind that is not served.
	ErrKey = errors.New("malformed key")
	// ErrTooLarge: the message is larger than MaxSize.
	ErrTooLarge = errors.New("message is too large to seal")
	// ErrClosed: the Writer or Reader is closed, or the Prepared is used up.
	ErrClosed = errors.New("already closed")
)

// corrupt wraps the cause of an ErrCorrupt.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
