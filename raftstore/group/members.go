package group

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Member is a server of the group's configuration, by its node's name.
type Member struct {
	Node  string
	Voter bool
}

// Members is the group's configuration as this replica knows it.
func (g *Group) Members() []Member {
	var list []Member
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		list = append(list, Member{string(s.ID), s.Suffrage == raft.Voter})
	}
	return list
}

// CommittedMembers is the group's configuration as it is committed. It answers on the leader alone, and appends an entry to the log: ErrNoLeader.
func (g *Group) CommittedMembers(ctx context.Context) ([]Member, error) {
	if err := g.leadsHere(ctx); err != nil {
		return nil, err
	}
	list := g.Members()
	if err := g.await(ctx, g.barrier(ctx).Error); err != nil {
		return nil, err
	}
	if !slices.Equal(list, g.Members()) { // it is being changed
		return nil, ErrUncertain
	}
	return list, nil
}

// WaitApplied returns nil once this replica's state shows all up to an index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	return g.passed.wait(ctx, g, index)
}

// Told is the index up to which this replica's state shows all, and subscribers have been told of it.
func (g *Group) Told() uint64 { return g.passed.now() }

// Shown is the index of the last command that this replica's state shows.
func (g *Group) Shown() uint64 { return g.applied.Load() }

// Leader is who leads the group, as far as this replica knows; "": nobody.
func (g *Group) Leader() string {
	_, id := g.raft.LeaderWithID()
	return string(id)
}

// Sole tells whether this replica is the group's only voter.
func (g *Group) Sole() bool {
	voters := 0
	for _, m := range g.Members() {
		if m.Voter {
			voters++
			if m.Node != g.cfg.NodeID {
				return false
			}
		}
	}
	return voters == 1
}

// IsMember tells whether this replica is in the group's configuration as it knows it. It is asked before everything that is asked of the
// group.
func (g *Group) IsMember() bool {
	return slices.ContainsFunc(g.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return string(s.ID) == g.cfg.NodeID
	})
}

// Removed tells whether this replica was a member of its group and is not any more, as far as its log says.
func (g *Group) Removed() bool {
	if g.IsMember() {
		g.member.Store(true)
		return false
	}
	return g.member.Load() && len(g.raft.GetConfiguration().Configuration().Servers) > 0
}

// Leads tells whether this replica leads its group.
func (g *Group) Leads() bool { return g.raft.State() == raft.Leader }

// Applied is the index of the last entry that was handed to this replica's state.
func (g *Group) Applied() uint64 { return g.raft.AppliedIndex() }

// changeTime bounds a change of the configuration.
const changeTime = 10 * time.Second

// AddVoter makes the node a voter, be it a member or not: ErrNoLeader when this replica does not lead.
func (g *Group) AddVoter(node string) error {
	return g.change(func() raft.Future {
		return g.raft.AddVoter(raft.ServerID(node), raft.ServerAddress(node), 0, changeTime)
	})
}

// AddNonvoter makes the node a member that follows the log and has no vote: ErrNoLeader when this replica does not lead.
func (g *Group) AddNonvoter(node string) error {
	return g.change(func() raft.Future {
		return g.raft.AddNonvoter(raft.ServerID(node), raft.ServerAddress(node), 0, changeTime)
	})
}

// DemoteVoter takes the node's vote: ErrNoLeader when this replica does not lead.
func (g *Group) DemoteVoter(node string) error {
	return g.change(func() raft.Future { return g.raft.DemoteVoter(raft.ServerID(node), 0, changeTime) })
}

// RemoveServer removes the node from the group: ErrNoLeader when this replica does not lead.
func (g *Group) RemoveServer(node string) error {
	return g.change(func() raft.Future { return g.raft.RemoveServer(raft.ServerID(node), 0, changeTime) })
}

// TransferLeadership has the node lead instead of this replica: ErrNoLeader when this one does not lead.
func (g *Group) TransferLeadership(node string) error {
	return g.change(func() raft.Future {
		return g.raft.LeadershipTransferToServer(raft.ServerID(node), raft.ServerAddress(node))
	})
}

// change waits for a change for as long as a commit may take: one whose quorum hangs, while heartbeats are answered, may take for ever.
func (g *Group) change(begin func() raft.Future) error {
	ctx, cancel := context.WithTimeout(g.life, changeTime)
	defer cancel()
	return g.await(ctx, func() error { return begin().Error() })
}

// PeerDown is told that a node is dead. When it leads this group, one voter that is up stands for election at once and the others a
// little later, if nobody leads by then, and so a few times: one that lacks entries is elected by nobody. It is safe whatever the detector
// thinks, for each is an election like any other.
func (g *Group) PeerDown(node string, up func(node string) bool) {
	g.replication.down(raft.ServerID(node), up)
	if g.Leader() != node {
		return
	}
	members, turn := g.Members(), 0
	self := slices.Index(members, Member{g.cfg.NodeID, true})
	if self < 0 {
		return
	}
	for _, m := range members[:self] {
		if m.Voter && m.Node != node && up(m.Node) {
			turn++
		}
	}
	g.done.Go(func() {
		wait := time.Duration(turn) * stagger
		for range elections {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-g.stop:
				timer.Stop()
				return
			}
			if leader := g.Leader(); leader != "" && leader != node || up(node) {
				return // another was elected, or the node is back
			}
			if err := g.standForElection(); err != nil && !errors.Is(err, ErrClosed) {
				g.log.Warn("standing for election", "error", err)
			}
			wait = time.Duration(len(members)) * stagger // the others' turns are before that
		}
	})
}

// standForElection has this replica stand for election at once, as if a leader had asked it to.
func (g *Group) standForElection() error {
	if g.IsJoining() {
		return nil
	}
	return g.transport.say(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}})
}

// stagger is between the elections of the voters that see a leader dead at once, and elections is how often each stands: after that Raft's own
// timeout is over.
const (
	stagger   = 200 * time.Millisecond
	elections = 3
)

// WaitMember waits until this replica has been added to its group, and has applied what was committed then.
func (g *Group) WaitMember(ctx context.Context) error {
	for !g.IsMember() {
		if err := g.Err(); err != nil {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond): // Raft tells nobody of a configuration that came in the log
		case <-ctx.Done():
			return g.explain(ctx.Err())
		case <-g.stop:
			return ErrClosed
		}
	}
	return g.ReadIndex(ctx)
}
