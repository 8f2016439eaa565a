package group

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"

	"mailraft/raftstore/durable"
)

// Raft takes a snapshot in, to its last octet, in the goroutine that votes: a sender that hangs in the middle of it would keep this replica from
// helping another to lead. So what comes is stored before Raft hears of it, and Raft is given a stream that leaves out all that is here.

// arrivals are the checkpoints that come: one is stored at a time, the one that began last.
type arrivals struct {
	mu      sync.Mutex // held for a few assignments
	giveUp  func()
	givenUp <-chan struct{} // closed when nothing is stored of it any more
}

var errOvertaken = errors.New("another checkpoint came")

// next has the one before be given up, and the next one too when another comes. ended is to be called when nothing is stored of it any more.
func (a *arrivals) next(giveUp func()) (ended func()) {
	done := make(chan struct{})
	a.mu.Lock()
	before, beforeDone := a.giveUp, a.givenUp
	a.giveUp, a.givenUp = giveUp, done
	a.mu.Unlock()
	if before != nil {
		before()
		<-beforeDone
	}
	return func() { close(done) }
}

// arrive takes in a checkpoint that a leader sends, and then has Raft install it.
func (t *transport) arrive(rpc raft.RPC, req raft.InstallSnapshotRequest) {
	g := t.g
	select {
	case <-g.started:
	case <-g.life.Done():
		return
	}
	in, out := io.Pipe()
	taken := make(chan struct{})
	go func() { // it hangs with the sender, until the connection ends
		_, err := io.Copy(out, rpc.Reader)
		out.CloseWithError(err)
		io.Copy(io.Discard, rpc.Reader) // what follows on the connection is another message
		close(taken)
	}()
	defer context.AfterFunc(g.life, func() { in.CloseWithError(ErrClosed) })()
	ended := t.arrivals.next(func() { in.CloseWithError(errOvertaken) })
	g.snapshots.arriving(1)
	release := sync.OnceFunc(func() {
		g.snapshots.arriving(-1)
		ended()
	})
	defer release()
	var stream []byte
	var err error
	if req.Term >= g.raft.CurrentTerm() { // else Raft will say that it is no leader's
		stream, err = g.snapshots.store(in)
	}
	in.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if err != nil {
		release()
	}
	select {
	case <-taken:
	case <-g.life.Done():
		return
	}
	if err != nil {
		g.log.Warn("a checkpoint did not come whole", "error", err)
		rpc.Respond(nil, err)
		return
	}
	req.Size = int64(len(stream))
	rpc.RespChan <- t.ask(&req, bytes.NewReader(stream))
}

// store stores the files of a checkpoint, and answers a stream that leaves them all out.
func (s *snapshotStore) store(r io.Reader) (stream []byte, err error) {
	dir := filepath.Join(s.dir, receivingFolder)
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	files, err := receive(r, dir)
	if err != nil {
		return nil, err
	}
	stream = append(stream, streamMagic...)
	for _, f := range files {
		stream = append(append(append(stream, f.head...), 1), f.sum[:]...)
	}
	return append(stream, 0, 0), nil
}

// arriving counts the checkpoints that come, whose files stay until they are installed.
func (s *snapshotStore) arriving(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming += more
}
