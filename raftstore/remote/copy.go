package remote

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// Copy implements remotepb.ReadsServer.
func (s *Server) Copy(stream grpc.BidiStreamingServer[remotepb.CopyRequest, remotepb.CopyPart]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	v, _, release, err := s.at(stream.Context(), req.At)
	if err != nil {
		return err
	}
	state, ok := v.(interface{ Snapshot() *tree.Snapshot })
	if !ok {
		release()
		return status.Error(codes.Unimplemented, "this replica can't be copied")
	}
	snap := state.Snapshot()
	release() // what is open keeps it readable
	defer snap.Close()
	if err := stream.Send(&remotepb.CopyPart{}); err != nil {
		return err
	}
	for {
		if req, err = stream.Recv(); err != nil {
			return ended(err)
		}
		switch {
		case req.Content != 0:
			err = snap.Content(tree.Account(req.Account), req.Content, req.SealedSize, func(piece []byte) error {
				return stream.Send(&remotepb.CopyPart{Piece: piece})
			})
		case req.Orphans:
			err = sendRecords(stream, tree.Account(req.Account), snap.Orphans)
		default:
			err = sendRecords(stream, tree.Account(req.Account), snap.Records)
		}
		part := &remotepb.CopyPart{End: true}
		if errno, ok := said(err); ok {
			part.Errno = uint32(errno)
		} else if err != nil {
			return unread(err)
		}
		if err := stream.Send(part); err != nil {
			return err
		}
	}
}

func sendRecords(
	stream grpc.BidiStreamingServer[remotepb.CopyRequest, remotepb.CopyPart], a tree.Account,
	read func(a tree.Account, fn func(key, value []byte) error) error,
) error {
	part, octets := &remotepb.CopyPart{}, 0
	err := read(a, func(key, value []byte) error {
		// The iterator's memory is used again.
		r := &remotepb.CopyRecord{Key: append([]byte(nil), key...), Value: append([]byte(nil), value...)}
		part.Records = append(part.Records, r)
		if octets += len(key) + len(value); octets < partOctets {
			return nil
		}
		err := stream.Send(part)
		part, octets = &remotepb.CopyPart{}, 0
		return err
	})
	if err == nil && octets > 0 {
		err = stream.Send(part)
	}
	return err
}

// Snapshot is the state of a shard on another node, which does not change, to copy accounts from. It may be used by many goroutines, one of
// which is served at a time. When its replica is lost, so is the snapshot: EIO.
type Snapshot struct {
	mu sync.Mutex
	d  *dialogue[remotepb.CopyRequest, remotepb.CopyPart]
}

// Snapshot takes a state that shows what later reads show. It must be closed.
func (c *Client) Snapshot(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{}
	err := c.call(ctx, func(_ context.Context, r *replica) (err error) {
		s.d, _, err = converse(c, func(ctx context.Context) (grpc.BidiStreamingClient[remotepb.CopyRequest, remotepb.CopyPart], error) {
			return r.reads.Copy(ctx)
		}, &remotepb.CopyRequest{At: c.at()})
		return err
	})
	return s, err
}

// Close lets the state go.
func (s *Snapshot) Close() error {
	s.d.end()
	return nil
}

// Records calls fn with all records of the account but its contents, as tree.Snapshot.Records does: ENOENT when it is not there.
func (s *Snapshot) Records(a tree.Account, fn func(key, value []byte) error) error {
	return s.records(&remotepb.CopyRequest{Account: uint32(a)}, fn)
}

// Orphans calls fn with what tree.Snapshot.Orphans does.
func (s *Snapshot) Orphans(a tree.Account, fn func(key, value []byte) error) error {
	return s.records(&remotepb.CopyRequest{Account: uint32(a), Orphans: true}, fn)
}

func (s *Snapshot) records(req *remotepb.CopyRequest, fn func(key, value []byte) error) error {
	return s.ask(req, func(part *remotepb.CopyPart) error {
		for _, r := range part.Records {
			if err := fn(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Content reads a sealed content.
func (s *Snapshot) Content(a tree.Account, content, sealed uint64, fn func(piece []byte) error) error {
	return s.ask(&remotepb.CopyRequest{Account: uint32(a), Content: content, SealedSize: sealed}, func(part *remotepb.CopyPart) error {
		if len(part.Piece) == 0 {
			return nil
		}
		return fn(part.Piece)
	})
}

func (s *Snapshot) ask(req *remotepb.CopyRequest, fn func(*remotepb.CopyPart) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.d.say(req)
	for err == nil {
		var part *remotepb.CopyPart
		if part, err = s.d.hear(); err != nil {
			break
		}
		if part.End {
			if part.Errno == 0 {
				return nil
			}
			return syscall.Errno(part.Errno)
		}
		if err := fn(part); err != nil {
			s.d.end() // what is on its way is not wanted, nor is anything else
			return err
		}
	}
	return fmt.Errorf("copy account %d from another node: %w: %v", req.Account, syscall.EIO, err)
}
