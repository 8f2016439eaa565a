package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"syscall"
	"time"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// Proposer proposes commands under request ids of its own, so that each is applied once however often it is sent. A mount has
// one: it knows the changes that it made itself by Session.
type Proposer struct {
	store   *Store
	session uint64

	mu     sync.Mutex
	groups map[uint32]*sequence // by the shard's number; 0: the directory
	ranges map[tree.Account]*inodeRange
}

// sequence numbers the requests to one group.
type sequence struct {
	mu          sync.Mutex
	last        uint64
	outstanding map[uint64]struct{}
}

// NewProposer makes a proposer with a new session.
func (s *Store) NewProposer() *Proposer {
	var b [8]byte
	rand.Read(b[:])
	return &Proposer{
		store: s, session: binary.BigEndian.Uint64(b[:]),
		groups: map[uint32]*sequence{}, ranges: map[tree.Account]*inodeRange{},
	}
}

// Session is the number under which this proposer's changes appear in events.
func (p *Proposer) Session() uint64 { return p.session }

// Propose commits a command in the shard of the account that it changes, wherever that moves meanwhile, and answers what applying it gave:
// Result.Errno is the state machine's answer. An error is the transport's, and holds a syscall.Errno: EIO when the shard has no leader or
// its disk fails, ETIMEDOUT, ENOSPC when the disk is full. After nil, the View of the account's Home shows the change.
func (p *Proposer) Propose(ctx context.Context, cmd *raftpb.Command) (tree.Result, error) {
	home := p.store.Home(tree.AccountOf(cmd))
	sh, err := home.shard()
	for missed := false; err == nil; {
		r, failed := p.ProposeIn(ctx, sh, cmd)
		switch {
		case failed != nil:
			return r, failed
		case r.Errno == syscall.EREMCHG:
			sh, err = home.awaitMove(ctx, sh)
		case r.Errno == syscall.ENOENT:
			var now *Shard
			// Once more where it is: the account may have come there since.
			if now, err = home.follow(ctx, sh); now == sh && missed {
				return r, nil
			}
			sh, missed = now, now == sh
		default:
			return r, nil
		}
	}
	if errors.Is(err, syscall.ENOENT) { // the account is no more
		return machine.Result{Errno: syscall.ENOENT}, nil
	}
	return machine.Result{}, withErrno(err)
}

// ProposeIn is Propose in that very shard, also of what is about no account, or about one that is not there yet.
func (p *Proposer) ProposeIn(ctx context.Context, sh *Shard, cmd *raftpb.Command) (tree.Result, error) {
	if sh.local() != nil { // else those who have it look at their disks
		if err := p.admit(cmd); err != nil {
			return machine.Result{}, err
		}
	}
	return p.propose(ctx, sh.id, cmd, sh.propose)
}

// proposeDirectory is Propose for the directory.
func (p *Proposer) proposeDirectory(ctx context.Context, cmd *raftpb.Command) (machine.Result, error) {
	if err := p.admit(cmd); err != nil {
		return machine.Result{}, err
	}
	return p.propose(ctx, 0, cmd, p.store.directory.group.Propose)
}

func (p *Proposer) propose(
	ctx context.Context, shard uint32, cmd *raftpb.Command,
	commit func(context.Context, *raftpb.Command) (machine.Result, error),
) (machine.Result, error) {
	q := p.sequence(shard)
	cmd.Version = machine.Needs(cmd)
	if err := p.store.allows(cmd.Version); err != nil {
		return machine.Result{}, err
	}
	cmd.Now = time.Now().UnixNano()
	cmd.Request = q.begin(p.session)
	defer q.end(cmd.Request.Sequence)
	r, err := commit(ctx, cmd)
	if err != nil {
		return r, withErrno(err)
	}
	return r, nil
}

// admit refuses what adds data when the disk is almost full. What removes data may use the reserve, and so may a change of
// accounts' records: removing an account begins with one, and making some ends with one. So may the end of a move, for which
// writes wait: half of it.
func (p *Proposer) admit(cmd *raftpb.Command) error {
	least := p.store.space.minFree
	switch op := cmd.Op.(type) {
	case *raftpb.Command_ImportRecords:
		if op.ImportRecords.Frozen { // but not all of it: an account may be larger
			least /= 2
		}
	case *raftpb.Command_Unlink, *raftpb.Command_RemoveAccount, *raftpb.Command_DropContent, *raftpb.Command_ReapOrphans,
		*raftpb.Command_RemoveXattr, *raftpb.Command_UpdateAccount, *raftpb.Command_UpdateAccounts, *raftpb.Command_DropAccount,
		*raftpb.Command_Rename, *raftpb.Command_FreezeAccount,
		*raftpb.Command_BeginImport, *raftpb.Command_EndImport, *raftpb.Command_PutSecret:
		return nil
	}
	free, _, err := p.store.space.free()
	if err == nil && free < least {
		err = syscall.ENOSPC
	}
	return err
}

// withErrno makes sure that the error holds an errno.
func withErrno(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errors.Join(err, syscall.ETIMEDOUT)
	}
	return errors.Join(err, syscall.EIO)
}

func (p *Proposer) sequence(shard uint32) *sequence {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.groups[shard]
	if q == nil {
		q = &sequence{outstanding: map[uint64]struct{}{}}
		p.groups[shard] = q
	}
	return q
}

func (q *sequence) begin(session uint64) *raftpb.Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	floor := q.last
	for seq := range q.outstanding {
		floor = min(floor, seq)
	}
	q.outstanding[q.last] = struct{}{}
	return &raftpb.Request{Session: session, Sequence: q.last, Floor: floor}
}

func (q *sequence) end(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.outstanding, seq)
}

// inodeRange is what is left of the inode numbers reserved for an account.
type inodeRange struct {
	mu         sync.Mutex
	next, end  tree.Ino
	reservings uint32 // doubles what is reserved at once, up to a bound: busy accounts reserve seldom
}

// ReserveIno gives a number for a new inode, or a new content, of the account: from a range that was reserved before, else by
// reserving one. Errors as Propose's, and ENOENT when the account has no tree.
func (p *Proposer) ReserveIno(ctx context.Context, a tree.Account) (tree.Ino, error) {
	p.mu.Lock()
	r := p.ranges[a]
	if r == nil {
		if len(p.ranges) >= maxRanges {
			for old := range p.ranges { // any: what is lost is a few numbers of 2^35
				delete(p.ranges, old)
				break
			}
		}
		r = new(inodeRange)
		p.ranges[a] = r
	}
	p.mu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == r.end {
		count := min(uint32(64)<<min(r.reservings, 6), tree.MaxReserve)
		r.reservings++
		cmd := &raftpb.Command{Op: &raftpb.Command_ReserveInodes{ReserveInodes: &raftpb.ReserveInodes{Account: uint32(a), Count: count}}}
		result, err := p.Propose(ctx, cmd)
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return 0, err
		}
		r.next = tree.Ino(result.Value)
		r.end = r.next + tree.Ino(count)
	}
	i := r.next
	r.next++
	return i, nil
}

// maxRanges bounds the accounts whose ranges are kept: some 10 MiB.
const maxRanges = 100_000
