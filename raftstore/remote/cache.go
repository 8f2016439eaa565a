package remote

import (
	"container/list"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"mailraft/raftstore/tree"
)

// contentKey names a content, which never changes: as long as its account is not brought from elsewhere anew.
type contentKey struct {
	account tree.Account
	content uint64
	size    uint64 // of the sealed form
}

func keyOf(in *tree.Inode) contentKey { return contentKey{in.Ino.Account(), in.Content, in.SealedSize} }

// Cache keeps sealed contents that were read on other nodes: short ones in memory, long ones in files, each within a bound. Those that
// were used last stay. It may be used by any number of goroutines.
type Cache struct {
	dir string

	mu      sync.Mutex // held for list operations, and to make or remove a file
	entries map[contentKey]*cached
	kinds   [2]cacheKind // of memory, of files
	last    uint64       // number of the last file
}

type cacheKind struct {
	limit, octets int64
	recent        list.List // of *cached, the last used first
}

const (
	inMemory = iota
	inFile
)

// maxInMemory is the longest content that is kept in memory.
const maxInMemory = 64 << 10

// cached is one content.
type cached struct {
	key  contentKey
	kind int
	at   *list.Element // nil when it was evicted
	data []byte

	// of a file
	file    *os.File
	readers int // with the cache's lock; 0: it may be evicted
	filling *filling
	sums    []uint32 // CRC-32C of each block that has come
}

// blockOctets is what a checksum is of.
const blockOctets = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewCache makes a cache with the folder dir for its files, which are dropped: nothing in it outlives the process. memory and disk are
// the octets that it may take of each; 0: none.
func NewCache(dir string, memory, disk int64) (*Cache, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty the cache of contents: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of contents: %w", err)
	}
	c := &Cache{dir: dir, entries: map[contentKey]*cached{}}
	c.kinds[inMemory].limit, c.kinds[inFile].limit = memory, disk
	return c, nil
}

// Close drops what is cached. No client may use it any more.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		c.drop(e)
	}
	return os.RemoveAll(c.dir)
}

// get finds a short content; the octets must not be changed.
func (c *Cache) get(k contentKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e == nil || e.kind != inMemory {
		return nil
	}
	c.kinds[inMemory].recent.MoveToFront(e.at)
	return e.data
}

// put keeps a short content.
func (c *Cache) put(k contentKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[k] == nil && c.room(inMemory, int64(len(data))) {
		c.add(&cached{key: k, kind: inMemory, data: data})
	}
}

// room evicts until there is room, if there can be. Called with mu.
func (c *Cache) room(kind int, octets int64) bool {
	k := &c.kinds[kind]
	if octets > k.limit {
		return false
	}
	for at := k.recent.Back(); at != nil && k.octets+octets > k.limit; {
		e := at.Value.(*cached)
		at = at.Prev()
		if e.readers == 0 {
			c.drop(e)
		}
	}
	return k.octets+octets <= k.limit
}

func (c *Cache) add(e *cached) {
	k := &c.kinds[e.kind]
	e.at = k.recent.PushFront(e)
	k.octets += int64(e.key.size)
	c.entries[e.key] = e
}

// drop takes a content out; its file goes with its last reader, and counts until then. Called with mu.
func (c *Cache) drop(e *cached) {
	if c.entries[e.key] == e {
		delete(c.entries, e.key)
	}
	if e.readers > 0 || e.at == nil {
		return
	}
	k := &c.kinds[e.kind]
	k.recent.Remove(e.at)
	e.at = nil
	k.octets -= int64(e.key.size)
	if e.file != nil {
		e.file.Close()
	}
}

// forget drops the contents of accounts. A number is used again when an account was removed, and brought back from a copy of it that is
// older; so it is done when one may have been.
func (c *Cache) forget(accounts ...tree.Account) {
	if len(accounts) == 0 {
		return
	}
	which := make(map[tree.Account]bool, len(accounts))
	for _, a := range accounts {
		which[a] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if which[k.account] {
			c.drop(e)
		}
	}
}

// has tells whether a long content is there, or on its way.
func (c *Cache) has(k contentKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	return e != nil && e.kind == inFile && !e.filling.hasFailed()
}

// open gives a long content, for the caller to release: one that is there or on its way, else one that start begins to bring. nil when
// there is no room.
func (c *Cache) open(k contentKey, start func(*filling)) (*cached, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[k]; e != nil && e.kind == inFile && !e.filling.hasFailed() {
		e.readers++
		c.kinds[inFile].recent.MoveToFront(e.at)
		return e, nil
	}
	if !c.room(inFile, int64(k.size)) {
		return nil, nil
	}
	c.last++
	path := filepath.Join(c.dir, fmt.Sprint(c.last))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil { // it lives as long as it is open
		return nil, errors.Join(err, file.Close())
	}
	if was := c.entries[k]; was != nil {
		c.drop(was)
	}
	e := &cached{key: k, kind: inFile, file: file, readers: 1, sums: make([]uint32, (k.size+blockOctets-1)/blockOctets)}
	e.filling = newFilling(e)
	c.add(e)
	start(e.filling)
	return e, nil
}

// release ends a use. A content that has not all come by then is given up: nobody waits for the rest.
func (c *Cache) release(e *cached) {
	c.mu.Lock()
	e.readers--
	last := e.readers == 0
	if last && (!e.filling.isWhole() || c.entries[e.key] != e) {
		if c.entries[e.key] == e {
			delete(c.entries, e.key)
		}
		e.filling.giveUp()
	} else {
		last = false
	}
	c.mu.Unlock()
	if !last {
		return
	}
	<-e.filling.ended // it writes no more
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(e)
}

// readAt reads what has come, and waits for what has not: io.EOF at the end, errBlock for what is not as it came.
func (e *cached) readAt(p []byte, off int64) (int, error) {
	n := 0
	block := make([]byte, 0, blockOctets)
	for n < len(p) {
		if off >= int64(e.key.size) {
			return n, io.EOF
		}
		number := off / blockOctets
		start := number * blockOctets
		length := min(blockOctets, int64(e.key.size)-start)
		if err := e.filling.wait(start + length); err != nil {
			return n, err
		}
		block = block[:length]
		if _, err := e.file.ReadAt(block, start); err != nil || crc32.Checksum(block, castagnoli) != e.sums[number] {
			return n, errBlock
		}
		k := copy(p[n:], block[off-start:])
		n += k
		off += int64(k)
	}
	return n, nil
}

// errBlock says that the cache's disk does not hold what was written to it.
var errBlock = errors.New("a cached content is damaged")
