package raftstore

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// catchUpPiece is how many octets of a checkpoint go out at once.
const catchUpPiece = 64 << 10

// newCatchUp bounds the octets a second; 0: there is no bound.
func newCatchUp(bandwidth int64) *rate.Limiter {
	if bandwidth == 0 {
		return rate.NewLimiter(rate.Inf, catchUpPiece)
	}
	return rate.NewLimiter(rate.Limit(bandwidth), catchUpPiece)
}

// throttle has what is sent to replicas that are far behind share this node's bandwidth for that.
func (s *Store) throttle(r io.Reader) io.Reader { return &throttled{r, s.catchUp, s.life} }

// spend waits until so many octets may be sent of that bandwidth.
func (s *Store) spend(ctx context.Context, octets int) error {
	for ; octets > 0; octets -= catchUpPiece {
		if err := s.catchUp.WaitN(ctx, min(octets, catchUpPiece)); err != nil {
			return err
		}
	}
	return nil
}

type throttled struct {
	r     io.Reader
	limit *rate.Limiter
	life  context.Context
}

func (t *throttled) Read(p []byte) (int, error) {
	n, err := t.r.Read(p[:min(len(p), catchUpPiece)])
	if err := t.limit.WaitN(t.life, n); err != nil {
		return n, err
	}
	return n, err
}
