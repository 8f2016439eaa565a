package raftstore

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"
)

// All that is sent of checkpoints shares the bandwidth.
func TestCheckpointsShareTheBandwidth(t *testing.T) {
	const bandwidth = 8 << 20
	s := &Store{life: t.Context(), catchUp: newCatchUp(bandwidth)}
	begun := time.Now()
	var sending sync.WaitGroup
	for range 2 {
		sending.Go(func() {
			n, err := io.Copy(io.Discard, s.throttle(bytes.NewReader(make([]byte, bandwidth/4))))
			if n != bandwidth/4 || err != nil {
				t.Errorf("%d octets: %v", n, err)
			}
		})
	}
	sending.Wait()
	if took, least := time.Since(begun), 490*time.Millisecond; took < least {
		t.Errorf("half of what may be sent in a second was sent in %v", took)
	}
	free := &Store{life: t.Context(), catchUp: newCatchUp(0)}
	if n, err := io.Copy(io.Discard, free.throttle(bytes.NewReader(make([]byte, 1<<20)))); n != 1<<20 || err != nil {
		t.Errorf("without a bound: %d octets, %v", n, err)
	}
}
