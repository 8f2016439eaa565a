package raftstore

import (
	"sync/atomic"

	"mailraft/raftstore/tree"
)

// shardCache is the shard of each account that was asked for. Accounts are numbered one after the other, so it takes four octets for one,
// where a map takes 127. The zero value is empty.
type shardCache struct {
	chunks [(tree.MaxAccount + 1) / chunkSize]atomic.Pointer[[chunkSize]atomic.Uint32]
}

const chunkSize = 4096

// get answers an account's shard; 0: it is not known.
func (c *shardCache) get(account uint32) uint32 {
	if account > uint32(tree.MaxAccount) {
		return 0
	}
	if chunk := c.chunks[account/chunkSize].Load(); chunk != nil {
		return chunk[account%chunkSize].Load()
	}
	return 0
}

// set notes an account's shard; 0: it is not known any more.
func (c *shardCache) set(account, shard uint32) {
	if account > uint32(tree.MaxAccount) {
		return
	}
	at := &c.chunks[account/chunkSize]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new([chunkSize]atomic.Uint32))
	}
	if chunk := at.Load(); chunk != nil { // else it has been cleared
		chunk[account%chunkSize].Store(shard)
	}
}

func (c *shardCache) clear() {
	for i := range c.chunks {
		c.chunks[i].Store(nil)
	}
}
