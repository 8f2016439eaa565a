package remote

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// maxPending is how many events a slow client may leave behind before its stream ends.
const maxPending = 64 << 10

// watcher is the serving side of a Watch stream.
type watcher struct {
	mu      sync.Mutex // taken by the applying goroutine: held for a few assignments
	watched map[tree.Account]bool
	pending []*remotepb.WatchReply
	wake    chan struct{} // has an element while something is pending
	lost    bool          // too much was
}

// Watch implements remotepb.ReadsServer.
func (s *Server) Watch(stream grpc.BidiStreamingServer[remotepb.WatchRequest, remotepb.WatchReply]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	shard := req.Shard
	r, err := s.replica(shard)
	if err != nil {
		return status.Errorf(codes.FailedPrecondition, "no replica of shard %d: %v", shard, err)
	}
	ctx, end := context.WithCancel(stream.Context())
	defer end()
	w := &watcher{watched: map[tree.Account]bool{}, wake: make(chan struct{}, 1)}
	cancel := r.Subscribe(w.applied)
	defer cancel()
	failed := make(chan error, 1)
	go func() { // ends after the stream; the request and its error are its own
		defer r.Release()
		var syncs sync.WaitGroup
		defer syncs.Wait()
		for {
			w.change(req, r)
			if sync := req.Sync; sync != nil {
				syncs.Go(func() { w.sync(ctx, sync, r) })
			}
			if req, err = stream.Recv(); err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-failed:
			return ended(err)
		case <-r.Done():
			return status.Errorf(codes.FailedPrecondition, "no replica of shard %d any more", shard)
		case <-w.wake:
		}
		pending, lost := w.take()
		for _, reply := range pending {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
		if lost {
			return status.Error(codes.ResourceExhausted, "more has changed than was taken")
		}
	}
}

// applied notes an event. It is called on the applying goroutine.
func (w *watcher) applied(ev *tree.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case ev.Replaced:
		w.add(&remotepb.WatchReply{Replaced: true})
	case w.watched[ev.Account]:
		w.add(&remotepb.WatchReply{Event: ev.AppendRecord(nil)})
	}
}

// change watches accounts, and watches others no more. It is answered in its place among the events.
func (w *watcher) change(req *remotepb.WatchRequest, r Replica) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range req.Remove {
		delete(w.watched, tree.Account(a))
	}
	for _, a := range req.Add {
		w.watched[tree.Account(a)] = true
	}
	if len(req.Add) > 0 {
		// What is applied behind this calls applied, which waits: whoever reads at this index or a later one has all events behind it.
		w.add(&remotepb.WatchReply{Watching: req.Add, Since: r.Applied()})
	}
}

// sync waits until the replica has applied what is asked for, and says so.
func (w *watcher) sync(ctx context.Context, req *remotepb.Sync, r Replica) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	err := r.WaitApplied(ctx, req.Index)
	if err == nil && req.ReadIndex {
		err = r.ReadIndex(ctx)
	}
	reply := &remotepb.WatchReply{Synced: req.Id}
	if err != nil {
		reply.Failed = err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	reply.Until = r.Told() // those events are pending, or were sent
	w.add(reply)
}

// add is called with mu.
func (w *watcher) add(reply *remotepb.WatchReply) {
	if w.lost = w.lost || len(w.pending) >= maxPending; w.lost {
		return
	}
	w.pending = append(w.pending, reply)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() (pending []*remotepb.WatchReply, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pending, w.pending = w.pending, nil
	return pending, w.lost
}
