package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"mailraft/raftstore/machine"
	"mailraft/raftstore/raftpb"
)

// ClientConfig says which group a client is of, and how it reaches it.
type ClientConfig struct {
	Name string
	// Voters are the nodes that may lead the group now.
	Voters func() []string
	Peers  Peers
	// Leader asks a node who leads the group, as far as its replica knows; "": nobody.
	Leader func(ctx context.Context, node string) (string, error)
}

// Client proposes to a group that this node has no replica of: it finds the leader by asking the voters. It may be used by any number of
// goroutines.
type Client struct {
	cfg    ClientConfig
	life   context.Context
	die    context.CancelFunc
	done   sync.WaitGroup
	doubts doubts

	mu       sync.Mutex // held for a few assignments
	leader   string     // "": none is known
	since    time.Time  // when there was last one, or the search for one began
	asked    time.Time  // when one was wanted last
	changed  chan struct{}
	searches bool
}

// NewClient makes a client, which Close ends.
func NewClient(cfg ClientConfig) *Client {
	c := &Client{cfg: cfg, changed: make(chan struct{})}
	c.life, c.die = context.WithCancel(context.Background())
	return c
}

// Close ends what the client is doing, with ErrClosed.
func (c *Client) Close() {
	c.die()
	c.done.Wait()
}

// Propose commits the command and answers what applying it gave. Errors are those of Group.Propose.
func (c *Client) Propose(ctx context.Context, cmd *raftpb.Command) (machine.Result, error) {
	return c.doubts.propose(cmd, c.proposing(ctx))
}

// Settle returns nil once nothing that was proposed before and got no answer will be committed any more, unless it is already.
func (c *Client) Settle(ctx context.Context) error {
	return c.doubts.settle(c.proposing(ctx))
}

// TakeOver has Settle settle also what a replica that is being closed has left in doubt.
func (c *Client) TakeOver(g *Group) {
	for _, cmd := range g.doubts.all() {
		c.doubts.add(cmd)
	}
}

// PeerDown is told that a node is dead: what is asked of it is asked of another.
func (c *Client) PeerDown(node string) { c.failed(node) }

// Leader finds who leads the group: ErrNoLeader, and what ends ctx.
func (c *Client) Leader(ctx context.Context) (string, error) {
	node, _, err := c.find(ctx)
	return node, err
}

func (c *Client) proposing(ctx context.Context) proposing {
	return func(_ *raftpb.Request, data []byte) (machine.Result, bool, error) { return c.propose(ctx, data) }
}

// propose also tells whether some leader may have got the command.
func (c *Client) propose(ctx context.Context, data []byte) (r machine.Result, sent bool, err error) {
	var lost error
	for begin := time.Now(); ; {
		node, changed, err := c.find(ctx)
		if err != nil {
			return r, sent, errors.Join(err, lost)
		}
		r, err = c.ask(ctx, node, changed, data)
		if err == nil {
			return r, true, nil
		}
		sent = sent || !errors.Is(err, ErrNoLeader)
		if !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNoLeader) {
			return r, sent, err
		}
		c.failed(node)
		if time.Since(begin) > commitPatience {
			return r, sent, errors.Join(ErrNoLeader, err)
		}
		lost = err
	}
}

// ask proposes to one node, while that is taken for the leader.
func (c *Client) ask(ctx context.Context, node string, changed <-chan struct{}, data []byte) (machine.Result, error) {
	attempt, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	type answer struct {
		r   machine.Result
		err error
	}
	got := make(chan answer, 1)
	c.done.Go(func() {
		r, _, err := c.cfg.Peers.Propose(attempt, node, data)
		got <- answer{r, err}
	})
	select {
	case a := <-got:
		if a.err != nil && ctx.Err() != nil {
			return a.r, errors.Join(ctx.Err(), syscall.ETIMEDOUT)
		}
		return a.r, a.err
	case <-changed:
		return machine.Result{}, fmt.Errorf("node %s does not lead group %s any more: %w", node, c.cfg.Name, ErrUncertain)
	case <-ctx.Done():
		return machine.Result{}, errors.Join(ctx.Err(), syscall.ETIMEDOUT)
	case <-c.life.Done():
		return machine.Result{}, ErrClosed
	}
}

// find waits for a leader, for as long as there was none for leaderPatience at most; changed is closed when it is that no more.
func (c *Client) find(ctx context.Context) (node string, changed <-chan struct{}, err error) {
	for {
		c.mu.Lock()
		c.asked = time.Now()
		if c.leader == "" && !c.searches && c.life.Err() == nil {
			c.searches, c.since = true, c.asked
			c.done.Go(c.search)
		}
		node, changed = c.leader, c.changed
		left := leaderPatience - time.Since(c.since)
		c.mu.Unlock()
		switch {
		case c.life.Err() != nil:
			return "", nil, ErrClosed
		case ctx.Err() != nil:
			return "", nil, errors.Join(ctx.Err(), syscall.ETIMEDOUT)
		case node != "":
			return node, changed, nil
		case left <= 0:
			return "", nil, ErrNoLeader
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		case <-c.life.Done():
		}
		timer.Stop()
	}
}

// failed notes that a node can't be asked as the leader.
func (c *Client) failed(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader == node && node != "" {
		c.set("")
	}
}

// set is called with mu.
func (c *Client) set(leader string) {
	c.leader, c.since = leader, time.Now()
	close(c.changed)
	c.changed = make(chan struct{})
}

// searchFor is how long a leader is looked for after somebody wanted one.
const searchFor = time.Minute

// search asks the voters for the leader until one is found, which says itself that it leads.
func (c *Client) search() {
	for {
		found := c.searchOnce()
		c.mu.Lock()
		if found != "" {
			c.set(found)
		}
		if found != "" || time.Since(c.asked) > searchFor || c.life.Err() != nil {
			c.searches = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		select {
		case <-time.After(2 * retryPause):
		case <-c.life.Done():
		}
	}
}

func (c *Client) searchOnce() string {
	ctx, cancel := context.WithTimeout(c.life, time.Second)
	defer cancel()
	voters := c.cfg.Voters()
	leaders := make(chan string, len(voters))
	for _, v := range voters {
		c.done.Go(func() {
			node, err := c.cfg.Leader(ctx, v)
			if err == nil && node != "" {
				_, err = c.cfg.Peers.ReadIndex(ctx, node)
			}
			if err != nil {
				node = ""
			}
			leaders <- node
		})
	}
	for range voters {
		if node := <-leaders; node != "" {
			return node
		}
	}
	return ""
}
