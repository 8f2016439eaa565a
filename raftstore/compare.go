package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/group"
	"mailraft/raftstore/peerpb"
	"mailraft/raftstore/raftpb"
)

// readyTime bounds how long a replica may take to wait for a mark.
const readyTime = 5 * time.Second

// Compare has all nodes hash their replicas, each group's at the index of one mark, while mail flows, and reports which replicas are not as
// most are, or gave no hash. It reads all that is stored, on all nodes. An error means that it ended early.
func (s *Store) Compare(ctx context.Context, report func(Problem)) error {
	groups, err := s.Groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		s.compareGroup(ctx, g, report)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// replicaHash is what a replica's node answered.
type replicaHash struct {
	node, hash string
	err        error
}

func (s *Store) compareGroup(ctx context.Context, g GroupStatus, report func(Problem)) {
	found := func(format string, args ...any) {
		report(Problem{Group: g.Name, What: fmt.Sprintf(format, args...)})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, mark := group.Mark()
	hashes := make([]replicaHash, len(g.Replicas))
	var waiting, done sync.WaitGroup
	for i, r := range g.Replicas {
		waiting.Add(1)
		done.Go(func() {
			ready := sync.OnceFunc(waiting.Done)
			defer ready()
			hash, err := s.askHash(ctx, r.Node, &peerpb.HashRequest{Group: g.Name, Mark: session}, ready)
			hashes[i] = replicaHash{r.Node, hash, err}
		})
	}
	waiting.Wait()
	if err := s.proposeMark(ctx, g.Shard, mark); err != nil {
		found("its replicas can't be compared now: %v", err)
		cancel()
		done.Wait()
		return
	}
	done.Wait()
	counts := map[string]int{}
	for _, h := range hashes {
		if h.err == nil {
			counts[h.hash]++
		}
	}
	for _, h := range hashes {
		switch {
		case h.err != nil:
			found("the replica on node %s gave no hash: %v", h.node, h.err)
		case 2*counts[h.hash] <= len(hashes) && len(counts) > 1:
			found("the replica on node %s differs from others: its hash is %s", h.node, h.hash)
		}
	}
}

// proposeMark commits a mark, which does nothing.
func (s *Store) proposeMark(ctx context.Context, shard uint32, mark *raftpb.Command) error {
	mark.Now = time.Now().UnixNano()
	if shard == 0 {
		_, err := s.directory.group.Propose(ctx, mark)
		return err
	}
	sh, err := s.shardNumber(shard)
	if err != nil {
		return err
	}
	_, err = sh.propose(ctx, mark)
	return err
}

// askHash answers a replica's hash as text, with the index that it is of. ready is called when the replica waits for the mark.
func (s *Store) askHash(ctx context.Context, node string, req *peerpb.HashRequest, ready func()) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(readyTime, cancel)
	var last *peerpb.HashReply
	take := func(r *peerpb.HashReply) error {
		late.Stop()
		ready()
		last = r
		return nil
	}
	if node == s.cfg.NodeID {
		if err := s.hash(ctx, req, take); err != nil {
			return "", err
		}
	} else {
		c, err := s.peer(node)
		if err != nil {
			return "", err
		}
		stream, err := c.Hash(ctx, req)
		for err == nil {
			var r *peerpb.HashReply
			if r, err = stream.Recv(); err == nil {
				err = take(r)
			}
		}
		if err != io.EOF {
			return "", errors.New(status.Convert(err).Message())
		}
	}
	return fmt.Sprintf("%x at %d", last.GetSha256(), last.GetIndex()), nil
}

// Hash implements peerpb.PeerServer.
func (s *peerServer) Hash(req *peerpb.HashRequest, stream grpc.ServerStreamingServer[peerpb.HashReply]) error {
	return s.store.hash(stream.Context(), req, stream.Send)
}

func (s *Store) hash(ctx context.Context, req *peerpb.HashRequest, send func(*peerpb.HashReply) error) error {
	g, release, err := s.replica(req.Group)
	if err != nil {
		return err
	}
	defer release()
	index, sum, err := g.Hash(ctx, req.Mark, func() error { return send(&peerpb.HashReply{}) })
	if err != nil {
		return toCode(err)
	}
	return send(&peerpb.HashReply{Index: index, Sha256: sum[:]})
}
