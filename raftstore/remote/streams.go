package remote

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// asLongAsItComes is a context for a stream, however long, that is done when nothing has come for a while: goesOn says that something did.
func (c *Client) asLongAsItComes() (ctx context.Context, goesOn, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(c.try, cancel)
	return ctx, func() { timer.Reset(c.try) }, func() {
		timer.Stop()
		cancel()
	}
}

// Accounts implements tree.Reader. It watches none of them.
func (c *Client) Accounts(fn func(tree.Account) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	var numbers []uint32
	err := c.call(ctx, func(_ context.Context, r *replica) error {
		numbers = nil
		ctx, goesOn, end := c.asLongAsItComes()
		defer end()
		stream, err := r.reads.Accounts(ctx, c.at())
		for err == nil {
			var lot *remotepb.Numbers
			goesOn()
			if lot, err = stream.Recv(); err == nil {
				c.Seen(lot.Applied)
				numbers = append(numbers, lot.Accounts...)
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range numbers {
		if !fn(tree.Account(a)) {
			break
		}
	}
	return nil
}

// FolderIndex implements tree.Reader.
func (c *Client) FolderIndex(folder tree.Ino, since tree.ModSeq) (x *tree.FolderIndex, err error) {
	err = c.about(folder.Account(), func(_ context.Context, r *replica) error {
		ctx, goesOn, end := c.asLongAsItComes()
		defer end()
		stream, err := r.reads.FolderIndex(ctx, &remotepb.FolderRequest{At: c.at(), Folder: uint64(folder), Since: uint64(since)})
		if err != nil {
			return err
		}
		x = nil
		for {
			goesOn()
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) && x != nil {
				return nil
			}
			if err == nil && x == nil {
				if err = c.answered(part.Errno, part.Applied); err == nil {
					x = &tree.FolderIndex{Since: tree.ModSeq(part.Since)}
					x.Folder, err = tree.DecodeInode(folder, part.Folder)
				}
				if err == nil && x.Since == 0 {
					x.Messages = make([]tree.IndexEntry, 0, min(x.Folder.Messages, 1<<20))
				}
			}
			if err == nil {
				err = take(x, part)
			}
			if err != nil {
				return err
			}
		}
	})
	return x, err
}

// take adds a part to the index.
func take(x *tree.FolderIndex, part *remotepb.FolderPart) error {
	for rest := part.Messages; len(rest) > 0; {
		m, behind, err := tree.DecodeIndexEntry(rest)
		if err != nil {
			return err
		}
		x.Messages, rest = append(x.Messages, m), behind
	}
	for rest := part.Vanished; len(rest) > 0; {
		v, behind, err := tree.DecodeVanished(rest)
		if err != nil {
			return err
		}
		x.Vanished, rest = append(x.Vanished, v), behind
	}
	return nil
}

// dialogue is a stream of questions and answers about what was opened at its other end.
type dialogue[Q, A any] struct {
	stream grpc.BidiStreamingClient[Q, A]
	end    context.CancelFunc
	try    time.Duration
}

// within ends the dialogue if fn takes too long.
func (d *dialogue[Q, A]) within(fn func() error) error {
	var late atomic.Bool
	timer := time.AfterFunc(d.try, func() {
		late.Store(true)
		d.end()
	})
	defer timer.Stop()
	err := fn()
	if err != nil && late.Load() {
		err = context.DeadlineExceeded
	}
	return err
}

func (d *dialogue[Q, A]) say(q *Q) error {
	return d.within(func() error {
		err := d.stream.Send(q)
		if errors.Is(err, io.EOF) { // the other end's error is what Recv says
			_, err = d.stream.Recv()
		}
		return err
	})
}

func (d *dialogue[Q, A]) hear() (a *A, err error) {
	err = d.within(func() (err error) {
		a, err = d.stream.Recv()
		return err
	})
	if errors.Is(err, io.EOF) { // it has more to say
		err = status.Error(codes.Unavailable, "ends early")
	}
	return a, err
}

// converse opens a dialogue, which may last: fn opens its stream.
func converse[Q, A any](
	c *Client, fn func(ctx context.Context) (grpc.BidiStreamingClient[Q, A], error), open *Q,
) (*dialogue[Q, A], *A, error) {
	ctx, end := context.WithCancel(context.Background())
	d := &dialogue[Q, A]{end: end, try: c.try}
	var first *A
	err := d.within(func() (err error) {
		d.stream, err = fn(ctx)
		return err
	})
	if err == nil {
		err = d.say(open)
	}
	if err == nil {
		first, err = d.hear()
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return d, first, nil
}

// listing implements tree.DirReader. When its replica is lost, it goes on behind the last name on another, as the directory is then.
type listing struct {
	c      *Client
	dir    tree.Ino
	d      *dialogue[remotepb.ListRequest, remotepb.ListPart]
	rest   []byte // entries that have come
	last   string // the name given last
	end    bool   // no more come behind rest
	asked  bool   // the next part is
	failed error
}

// OpenDir implements tree.Reader.
func (c *Client) OpenDir(dir tree.Ino) (tree.DirReader, error) {
	l := &listing{c: c, dir: dir}
	if err := l.open(""); err != nil {
		return nil, err
	}
	return l, nil
}

// open opens the directory anew, to go on behind a name.
func (l *listing) open(after string) error {
	l.Close()
	return l.c.about(l.dir.Account(), func(_ context.Context, r *replica) error {
		d, part, err := converse(l.c, func(ctx context.Context) (grpc.BidiStreamingClient[remotepb.ListRequest, remotepb.ListPart], error) {
			return r.reads.List(ctx)
		}, &remotepb.ListRequest{Open: &remotepb.InodeRequest{At: l.c.at(), Inode: uint64(l.dir)}, Seek: after != "", After: []byte(after)})
		if err != nil {
			return err
		}
		if err := l.c.answered(part.Errno, part.Applied); err != nil {
			d.end()
			return err
		}
		l.d = d
		return l.take(part)
	})
}

// take takes in a part, and asks for the one behind it.
func (l *listing) take(part *remotepb.ListPart) error {
	l.rest, l.end, l.asked = part.Entries, part.End, !part.End
	if l.asked {
		return l.d.say(&remotepb.ListRequest{})
	}
	return nil
}

// Next implements tree.DirReader.
func (l *listing) Next() (de tree.DirEntry, ok bool) {
	for l.failed == nil && len(l.rest) == 0 && !l.end {
		l.failed = l.more()
	}
	if l.failed != nil || len(l.rest) == 0 {
		return de, false
	}
	de, l.rest, l.failed = tree.DecodeEntry(l.rest)
	l.last = de.Name
	return de, l.failed == nil
}

// more waits for the next part.
func (l *listing) more() error {
	part, err := l.d.hear()
	if err == nil {
		err = l.take(part)
	}
	if err != nil {
		return l.open(l.last)
	}
	return nil
}

// SeekAfter implements tree.DirReader.
func (l *listing) SeekAfter(name string) {
	if l.failed != nil {
		return
	}
	var err error
	if l.asked {
		_, err = l.d.hear() // and is not wanted
	}
	var part *remotepb.ListPart
	if err == nil {
		err = l.d.say(&remotepb.ListRequest{Seek: true, After: []byte(name)})
	}
	if err == nil {
		part, err = l.d.hear()
	}
	if err == nil {
		err = l.take(part)
	}
	l.last = name
	if err != nil {
		l.failed = l.open(name)
	}
}

// Err implements tree.DirReader.
func (l *listing) Err() error { return l.failed }

// Close implements tree.DirReader.
func (l *listing) Close() error {
	if l.d != nil {
		l.d.end()
		l.d = nil
	}
	return nil
}
