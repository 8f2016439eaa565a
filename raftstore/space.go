package raftstore

import (
	"sync/atomic"
	"syscall"
	"time"
)

// space watches the disk's free octets, so that the store stops taking data while it still has room to work: the Raft log and
// Pebble must never find the disk full.
type space struct {
	dir     string
	minFree uint64
	last    atomic.Pointer[reading]
}

type reading struct {
	at   time.Time
	free uint64
}

// newSpace watches the disk of dir. minFree 0 is most, or an eighth of the disk if that is less.
func newSpace(dir string, minFree, most uint64) (*space, error) {
	if minFree == 0 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			return nil, err
		}
		minFree = min(most, st.Blocks*uint64(st.Bsize)/8)
	}
	return &space{dir: dir, minFree: minFree}, nil
}

// fresh is how long a reading is good for: at 1 GB/s, 64 MiB last for longer.
const fresh = 50 * time.Millisecond

func (s *space) free() (uint64, bool, error) {
	r := s.last.Load()
	if r == nil || time.Since(r.at) > fresh {
		var st syscall.Statfs_t
		if err := syscall.Statfs(s.dir, &st); err != nil {
			return 0, false, err
		}
		r = &reading{time.Now(), st.Bavail * uint64(st.Bsize)}
		s.last.Store(r)
	}
	return r.free, r.free < s.minFree, nil
}

// size is the disk's octets.
func (s *space) size() (uint64, error) {
	var st syscall.Statfs_t
	err := syscall.Statfs(s.dir, &st)
	return st.Blocks * uint64(st.Bsize), err
}
