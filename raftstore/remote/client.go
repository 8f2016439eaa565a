package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// Dial finds the nearest live replica of a client's shard, and answers the connection to its node, which stays its own. What is named in
// failed is no good just now: those nodes come last, or not at all.
type Dial func(ctx context.Context, failed []string) (conn *grpc.ClientConn, node string, err error)

// Client reads a shard on another node. It is a tree.Reader, whose errors hold EIO or ETIMEDOUT when the shard could not be read.
type Client struct {
	shard uint32
	dial  Dial
	cache *Cache
	limit time.Duration // of a call
	try   time.Duration // of what one node has to answer in; then the next is asked
	idle  time.Duration // an account that was not read for so long is watched no more

	seen atomic.Uint64

	mu      sync.Mutex // held for a few assignments
	current *replica
	left    string    // a node that was cut off
	leftAt  time.Time // when

	watch     watching
	syncs     syncs
	transfers singleflight.Group // of short contents
}

var _ tree.Reader = (*Client)(nil)

// replica is the node that is asked now.
type replica struct {
	node  string
	reads remotepb.ReadsClient
}

// New makes a reader of a shard. emit is called with what changes in the accounts that were read, one call at a time, in order: it must
// only take note. Close ends it.
//
// What is known of the shard's index when it is made is said by Seen before anything is read: until then, a replica that is far behind,
// or has only begun to be one, may answer.
func New(shard uint32, dial Dial, cache *Cache, emit func(*tree.Event)) *Client {
	c := &Client{shard: shard, dial: dial, cache: cache, limit: callLimit, try: 3 * time.Second, idle: 10 * time.Minute}
	c.watch.start(c, emit)
	return c
}

// Close ends the watching: what was watched is said to be replaced. Nothing may be read any more.
func (c *Client) Close() error {
	c.watch.stop()
	return nil
}

// Seen has every later answer show what was applied at index: that of a proposal's result, or a read index.
// Index is the index that every later answer shows.
func (c *Client) Index() uint64 { return c.seen.Load() }

func (c *Client) Seen(index uint64) {
	for {
		was := c.seen.Load()
		if index <= was || c.seen.CompareAndSwap(was, index) {
			return
		}
	}
}

// Watch returns nil once whatever changes in the account is emitted. Every read of an account does so before; whoever caches the effect
// of a proposal without reading calls it before it proposes.
func (c *Client) Watch(ctx context.Context, a tree.Account) error {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	return c.watched(ctx, a)
}

func (c *Client) watched(ctx context.Context, a tree.Account) error {
	if c.watch.isWatched(a) {
		return nil
	}
	return c.call(ctx, func(ctx context.Context, r *replica) error { return c.watch.add(ctx, r, a) })
}

func (c *Client) at() *remotepb.At { return &remotepb.At{Shard: c.shard, Index: c.seen.Load()} }

// leaveTime is how long a node that was cut off is asked after the others.
const leaveTime = 10 * time.Second

// replica is the node to ask; failed were asked in vain.
func (c *Client) replica(ctx context.Context, failed []string) (*replica, error) {
	c.mu.Lock()
	r := c.current
	if c.left != "" && time.Since(c.leftAt) < leaveTime {
		failed = append(slices.Clip(failed), c.left)
	}
	c.mu.Unlock()
	if r != nil {
		return r, nil
	}
	conn, node, err := c.dial(ctx, failed)
	if err != nil {
		return nil, err
	}
	r = &replica{node, remotepb.NewReadsClient(conn)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		c.current = r
	}
	return c.current, nil
}

// drop has another replica asked from now on.
func (c *Client) drop(r *replica) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == r {
		c.current = nil
	}
}

// retryPause is how long nodes are left alone when one of them has failed.
const retryPause = 20 * time.Millisecond

// call calls fn with one replica after the other, until it has an answer or the time is up: then the error holds EIO or ETIMEDOUT, and no
// other errno. A final error of fn's is the answer.
func (c *Client) call(ctx context.Context, fn func(ctx context.Context, r *replica) error) error {
	var failed []string
	for pause := retryPause; ; pause = min(2*pause, time.Second) {
		r, err := c.replica(ctx, failed)
		if err == nil {
			attempt, cancel := context.WithTimeout(ctx, c.try)
			err = fn(attempt, r)
			cancel()
		}
		var answer final
		if err == nil {
			return nil
		} else if errors.As(err, &answer) {
			return answer.error
		}
		node, hopeless := "none", false
		if r != nil {
			node = r.node
			hopeless = slices.Contains(failed, node) && !mayPass(err) || errors.Is(err, errClosed) // all have been asked
			failed = append(failed, node)
			c.drop(r)
		}
		if !hopeless {
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
			}
		}
		// What the transport's error holds must not be taken for the tree's: it is told, not wrapped.
		errno := syscall.EIO
		if code := status.Code(err); code == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
			errno = syscall.ETIMEDOUT
		}
		return fmt.Errorf("read shard %d on another node (the last asked: %s): %w: %v", c.shard, node, errno, err)
	}
}

// mayPass tells whether a node that failed so may answer a moment later.
func mayPass(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	switch status.Code(err) {
	case codes.DataLoss, codes.InvalidArgument, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated, codes.Unknown:
		return false
	}
	return true
}

// errClosed answers whoever reads after Close.
var errClosed = errors.New("the reader is closed")

// final is an answer that no other replica needs to be asked for.
type final struct{ error }

// answered takes the answer's index in, and the tree's error.
func (c *Client) answered(errno uint32, applied uint64) error {
	c.Seen(applied)
	if errno == 0 {
		return nil
	}
	if e, ok := said(syscall.Errno(errno)); ok {
		return final{e}
	}
	return fmt.Errorf("answers errno %d", errno)
}

// about calls fn, which asks a replica about the account, once that is watched.
func (c *Client) about(a tree.Account, fn func(ctx context.Context, r *replica) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	if err := c.watched(ctx, a); err != nil {
		return err
	}
	return c.call(ctx, fn)
}

// ask is about with one question and one answer, that take takes in.
func (c *Client) ask(
	a tree.Account,
	question func(ctx context.Context, r *replica) (*remotepb.Answer, error),
	take func(*remotepb.Answer) error,
) error {
	return c.about(a, func(ctx context.Context, r *replica) error {
		reply, err := question(ctx, r)
		if err == nil {
			err = c.answered(reply.Errno, reply.Applied)
		}
		if err == nil {
			err = take(reply)
		}
		return err
	})
}

// Account implements tree.Reader.
func (c *Client) Account(a tree.Account) (rec *tree.AccountRecord, err error) {
	err = c.ask(a, func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Account(ctx, &remotepb.AccountRequest{At: c.at(), Account: uint32(a)})
	}, func(reply *remotepb.Answer) (err error) {
		rec, err = tree.DecodeAccount(a, reply.Record)
		return err
	})
	return rec, err
}

// Has tells whether the account's tree is in the shard and changes there: it is not frozen. It is asked once, and heard of since.
func (c *Client) Has(ctx context.Context, a tree.Account) (bool, error) {
	if err := c.Watch(ctx, a); err != nil {
		return false, err
	}
	known, e, moves := c.watch.has(a)
	if known {
		return true, nil
	}
	rec, err := c.Account(a)
	if errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	if err != nil || rec.Frozen != 0 {
		return false, err
	}
	c.watch.hasIt(e, moves)
	return true, nil
}

// Inode implements tree.Reader.
func (c *Client) Inode(i tree.Ino) (in *tree.Inode, err error) {
	err = c.ask(i.Account(), func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Inode(ctx, &remotepb.InodeRequest{At: c.at(), Inode: uint64(i)})
	}, func(reply *remotepb.Answer) (err error) {
		in, err = tree.DecodeInode(i, reply.Record)
		return err
	})
	return in, err
}

// Lookup implements tree.Reader.
func (c *Client) Lookup(parent tree.Ino, name string) (de tree.DirEntry, err error) {
	err = c.ask(parent.Account(), func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Lookup(ctx, &remotepb.NameRequest{At: c.at(), Inode: uint64(parent), Name: []byte(name)})
	}, func(reply *remotepb.Answer) (err error) {
		de, _, err = tree.DecodeEntry(reply.Record)
		return err
	})
	return de, err
}

// Xattr implements tree.Reader.
func (c *Client) Xattr(i tree.Ino, name string) (value []byte, err error) {
	err = c.ask(i.Account(), func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Xattr(ctx, &remotepb.NameRequest{At: c.at(), Inode: uint64(i), Name: []byte(name)})
	}, func(reply *remotepb.Answer) error {
		value = append([]byte{}, reply.Record...)
		return nil
	})
	return value, err
}

// Xattrs implements tree.Reader.
func (c *Client) Xattrs(i tree.Ino) (names []string, err error) {
	err = c.ask(i.Account(), func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Xattrs(ctx, &remotepb.InodeRequest{At: c.at(), Inode: uint64(i)})
	}, func(reply *remotepb.Answer) error {
		names = nil
		for _, name := range reply.Names {
			names = append(names, string(name))
		}
		return nil
	})
	return names, err
}

// Path implements tree.Reader.
func (c *Client) Path(i tree.Ino) (path string, err error) {
	err = c.ask(i.Account(), func(ctx context.Context, r *replica) (*remotepb.Answer, error) {
		return r.reads.Path(ctx, &remotepb.InodeRequest{At: c.at(), Inode: uint64(i)})
	}, func(reply *remotepb.Answer) error {
		path = string(reply.Record)
		return nil
	})
	return path, err
}
