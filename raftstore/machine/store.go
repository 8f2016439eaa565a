package machine

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Store is the Pebble store of a group. It is swapped for another one when a snapshot from the leader replaces all that the
// replica has, while readers may still hold the old one: so reading is done through a Handle.
type Store struct {
	mu  sync.RWMutex // held to take a handle, and to swap
	cur *Handle
}

// Handle is a use of the store: it stays open until released.
type Handle struct {
	*pebble.DB
	refs  atomic.Int64
	after func() // called when the database is closed; nil: nothing
}

// NewStore makes a store of an open database, which it closes in the end.
func NewStore(db *pebble.DB) *Store {
	s := &Store{cur: &Handle{DB: db}}
	s.cur.refs.Store(1)
	return s
}

// Acquire gives the store as it is now; the caller calls Release.
func (s *Store) Acquire() *Handle {
	s.mu.RLock()
	h := s.cur
	h.refs.Add(1)
	s.mu.RUnlock()
	return h
}

// Release ends the use. The last one to release a store that was swapped or closed closes the database.
func (h *Handle) Release() error {
	if h.refs.Add(-1) > 0 {
		return nil
	}
	err := h.DB.Close()
	if h.after != nil {
		h.after()
	}
	return err
}

// Swap puts another database in the place of the one before. after is called when that one is closed, by its last reader.
func (s *Store) Swap(db *pebble.DB, after func()) error {
	h := &Handle{DB: db}
	h.refs.Store(1)
	s.mu.Lock()
	old := s.cur
	s.cur = h
	s.mu.Unlock()
	old.after = after // before the store's own reference goes
	return old.Release()
}

// AfterClose has fn called when the database that there is now is closed, by its last reader.
func (s *Store) AfterClose(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur.after = fn
}

// Close closes the database once the last handle is released. Acquire must not be called afterwards.
func (s *Store) Close() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cur.Release()
}
