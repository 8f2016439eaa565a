package lockedmem

import (
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
)

// regionSize is how much memory is locked at a time: a process may have no more than some 65,000 mappings, and an account's key each.
const regionSize = 64 << 10

// region is memory that was locked in one piece.
type region struct {
	mapping []byte   // nil: it is of the heap
	free    [][]byte // slots
}

// regions are all that there are. mu guards them and what is in them.
var regions struct {
	mu   sync.Mutex
	list []*region
}

const slots = regionSize / SlotSize

// take returns a slot that nobody has.
func take() (*region, []byte) {
	regions.mu.Lock()
	defer regions.mu.Unlock()
	for _, r := range regions.list {
		if last := len(r.free) - 1; last >= 0 {
			slot := r.free[last]
			r.free = r.free[:last]
			return r, slot
		}
	}
	r := newRegion()
	regions.list = append(regions.list, r)
	slot := r.free[slots-1]
	r.free = r.free[:slots-1]
	return r, slot
}

// give takes a slot back, which is wiped. The last one of a region takes the region with it.
func (r *region) give(slot []byte) {
	regions.mu.Lock()
	defer regions.mu.Unlock()
	r.free = append(r.free, slot[:SlotSize])
	if len(r.free) < slots {
		return
	}
	for i := range regions.list {
		if regions.list[i] == r {
			regions.list = append(regions.list[:i], regions.list[i+1:]...)
			break
		}
	}
	if r.mapping != nil {
		if err := unix.Munmap(r.mapping); err != nil {
			slog.Error("memory of secrets is not given back", "error", err)
		}
	}
}

// warned is told once each what secrets lack.
var warned sync.Map

func warn(what string, err error) {
	if _, again := warned.LoadOrStore(what, true); !again {
		slog.Warn(what, "error", err)
	}
}

func newRegion() *region {
	mapping, memory, err := mapRegion()
	if err != nil {
		warn("keys are kept on the heap: no memory can be mapped for them", err)
		mapping, memory = nil, make([]byte, regionSize)
	}
	r := &region{mapping: mapping}
	for at := regionSize - SlotSize; at >= 0; at -= SlotSize {
		r.free = append(r.free, memory[at:at+SlotSize:at+SlotSize])
	}
	return r
}

// mapRegion maps a region: secret memory, or else private one between two pages that can't be touched, which are part of the mapping.
func mapRegion() (mapping, memory []byte, err error) {
	if memory = secretMemory(regionSize); memory != nil {
		return memory, memory, nil
	}
	guard := unix.Getpagesize()
	if mapping, err = unix.Mmap(-1, 0, regionSize+2*guard, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, nil, err
	}
	memory = mapping[guard : guard+regionSize]
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"mprotect", func() error { return unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE) }},
		{"no dump", func() error { return unix.Madvise(memory, unix.MADV_DONTDUMP) }},
		{"wipe on fork", func() error { return unix.Madvise(memory, unix.MADV_WIPEONFORK) }},
	} {
		if err := step.do(); err != nil {
			unix.Munmap(mapping)
			return nil, nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if err := lock(memory); err != nil {
		warn("keys may be swapped out: raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)", err)
	}
	return mapping, memory, nil
}

// lock locks memory, with the limit raised as far as this process may.
func lock(memory []byte) error {
	err := unix.Mlock(memory)
	if err == nil {
		return nil
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) != nil {
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
			limit.Cur = limit.Max
			unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
		}
	}
	return unix.Mlock(memory)
}
