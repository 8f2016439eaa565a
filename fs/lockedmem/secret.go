package lockedmem

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// SlotSize is how many bytes a secret has at most.
const SlotSize = 128

// ErrFreed: the secret was freed.
var ErrFreed = errors.New("secret is freed")

// Secret is one secret that is kept. It is safe for concurrent use.
type Secret struct {
	mu     sync.RWMutex
	region *region // nil once freed
	b      []byte
}

// Keep copies secret, of at most SlotSize bytes, which stays the caller's to wipe. Where no page can be had it is kept on the heap, and where
// it can't be locked in memory that may be swapped out; either is logged once.
func Keep(secret []byte) *Secret {
	if len(secret) > SlotSize {
		panic(fmt.Sprintf("lockedmem: a secret of %d bytes", len(secret)))
	}
	r, slot := take()
	s := &Secret{region: r, b: slot[:len(secret)]}
	copy(s.b, secret)
	runtime.SetFinalizer(s, (*Secret).Free) // of one that was forgotten
	return s
}

// Use calls f with the secret, which is not to be kept, nor changed; Free waits for f. Errors: ErrFreed.
func (s *Secret) Use(f func(secret []byte)) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.region == nil {
		return ErrFreed
	}
	f(s.b)
	return nil
}

// Freed says whether it was freed.
func (s *Secret) Freed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.region == nil
}

// Free wipes the secret. Freeing again does nothing.
func (s *Secret) Free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.region == nil {
		return
	}
	clear(s.b)
	s.region.give(s.b)
	s.region, s.b = nil, nil
	runtime.SetFinalizer(s, nil)
}
