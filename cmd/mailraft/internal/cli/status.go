package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/progress"
)

func (p *program) status() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the node is, what is wrong first",
		Args:  cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			s, err := c.Status(ctx, &adminpb.StatusRequest{})
			if err != nil {
				return err
			}
			problems := problemsOf(s)
			if asJSON {
				err = p.statusJSON(s, problems)
			} else {
				err = p.statusText(s, problems)
			}
			if err == nil && len(problems) > 0 {
				return errSilent
			}
			return err
		}),
	}
	jsonFlag(cmd, &asJSON, "one object; problems has what is wrong")
	return cmd
}

// problemsOf says in words what is wrong, and what to do.
func problemsOf(s *adminpb.StatusReply) []string {
	var all []string
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if s.DiskFull {
		wrong("The disk of the data folder %s has only %s free: no mail is taken. Free some space.", s.Data, progress.Octets(s.FreeBytes))
	}
	if err := mounted(s.Mount); err != nil {
		wrong("The mail is not mounted at %s (%v). Stop the daemon and start it again.", s.Mount, err)
	}
	for _, g := range s.Groups {
		switch {
		case g.Problem != "":
			wrong("Group %s does not work: %s.", g.Name, g.Problem)
		case g.Leader == "" && len(s.Shards) == 0:
			wrong("Group %s has no leader: what it stores can be read, not changed.", g.Name)
		}
	}
	down := map[string]bool{}
	for _, n := range s.Nodes {
		down[n.Name] = !n.Up
	}
	var noQuorum, noLeader, few []string
	for _, sh := range s.Shards {
		name := fmt.Sprintf("shard %d", sh.Id)
		if sh.Id == 0 {
			name = "the directory"
		}
		voters, votes := 0, 0
		for _, r := range sh.Replicas {
			if r.Voter {
				voters++
				if r.Problem == "" {
					votes++
				}
			}
			if r.Problem != "" && !down[r.Node] {
				wrong("The copy of %s on node %s does not work: %s.", name, r.Node, r.Problem)
			}
		}
		switch {
		case voters > 0 && votes <= voters/2:
			noQuorum = append(noQuorum, name)
		case sh.Leader == "":
			noLeader = append(noLeader, name)
		case sh.Id > 0 && voters < min(3, active(s.Nodes)):
			few = append(few, name)
		}
	}
	for _, x := range []struct {
		names []string
		what  string
	}{
		{noQuorum, "has no quorum: half of the nodes that vote, or more, do not answer. What it stores can be read, and changes again when they do"},
		{noLeader, "has no leader: what it stores can be read, and changes again when it has one"},
		{few, "is on fewer nodes than it should: it is being copied to others, or they have no room"},
	} {
		if len(x.names) > 0 {
			wrong("Each of these %s: %s.", x.what, strings.Join(x.names, ", "))
		}
	}
	for _, n := range s.Nodes {
		if n.State != "removed" && !n.Up {
			wrong("Node %s at %s does not answer this one. If it will not come back: mailraft node remove %s.", n.Name, n.Address, n.Name)
		}
	}
	for _, x := range s.Proxies {
		if x.Pid == 0 {
			wrong("The %s proxy does not run (it is started again by itself): %s. The daemon's log says more.", x.Name, x.LastExit)
		}
	}
	return all
}

func active(nodes []*adminpb.ClusterNode) (count int) {
	for _, n := range nodes {
		if n.State == "active" {
			count++
		}
	}
	return count
}

// answerTime is long enough for a mount that answers at all.
const answerTime = 3 * time.Second

// mounted asks the mount itself whether it is there. One that does not answer must not keep this program waiting.
func mounted(path string) error {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil && st.Type != unix.FUSE_SUPER_MAGIC {
			err = errors.New("nothing is mounted there")
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		if errors.Is(err, syscall.EACCES) {
			return nil // its folder is closed to this user: nothing is known to be wrong
		}
		return err
	case <-time.After(answerTime):
		return errors.New("it does not answer")
	}
}

// statusObject is a status in JSON. Times are seconds since the epoch, sizes bytes.
type statusObject struct {
	Problems  []string         `json:"problems"`
	Version   string           `json:"version"`
	Hostname  string           `json:"hostname"`
	Data      string           `json:"data"`
	Mount     string           `json:"mount"`
	Started   int64            `json:"started"`
	FreeBytes uint64           `json:"free_bytes"`
	Memory    uint64           `json:"memory_bytes"`
	Groups    []groupObject    `json:"groups"`
	Nodes     []nodeObject     `json:"nodes"`
	Shards    []shardObject    `json:"shards"`
	Refused   uint64           `json:"refused"`
	Failed    uint64           `json:"logins_failed"`
	Delayed   uint64           `json:"logins_delayed"`
	Proxies   []proxyObject    `json:"proxies"`
	Listeners []listenerObject `json:"listeners"`
	Unlocked  []unlockedObject `json:"unlocked"`
	Resealing []*resealingLine `json:"resealing"`
}

type groupObject struct {
	Name       string `json:"name"`
	Role       string `json:"role"`
	Leader     string `json:"leader"`
	Term       uint64 `json:"term"`
	Applied    uint64 `json:"applied"`
	Committed  uint64 `json:"committed"`
	LogEntries uint64 `json:"log_entries"`
	StoreBytes uint64 `json:"store_bytes"`

	Voters []string `json:"voters"`
}

type nodeObject struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"`
	Answers bool   `json:"answers"`
}

// shardObject is a shard, or the directory (0), as all nodes say.
type shardObject struct {
	ID       uint32          `json:"shard"`
	Leader   string          `json:"leader"`
	Applied  uint64          `json:"applied"`
	Wanted   []string        `json:"wanted"`
	Replicas []replicaObject `json:"replicas"`
}

type replicaObject struct {
	Node    string `json:"node"`
	Voter   bool   `json:"voter"`
	Joining bool   `json:"joining"`
	Behind  uint64 `json:"behind"`
	Problem string `json:"problem"`
}

type proxyObject struct {
	Name     string `json:"name"`
	PID      int64  `json:"pid"`
	Since    int64  `json:"since"`
	Restarts int64  `json:"restarts"`
	LastExit string `json:"last_exit"`
	Memory   uint64 `json:"memory_bytes"`
}

type listenerObject struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

type unlockedObject struct {
	Address  string   `json:"address"`
	Sessions int64    `json:"sessions"`
	UIDs     []uint32 `json:"uids"` // null: all may read
}

// readers are whose processes alone may read an unlocked account; nil: all may.
func readers(u *adminpb.Unlocked) []uint32 {
	if !u.Bound {
		return nil
	}
	return append([]uint32{}, u.Uids...)
}

func (p *program) statusJSON(s *adminpb.StatusReply, problems []string) error {
	o := statusObject{
		Problems: append([]string{}, problems...), Version: s.Version, Hostname: s.Hostname, Data: s.Data, Mount: s.Mount,
		Started: s.Started, FreeBytes: s.FreeBytes, Memory: s.ResidentBytes,
		Nodes: []nodeObject{}, Shards: []shardObject{}, Refused: s.Refused,
		Failed: s.LoginsFailed, Delayed: s.LoginsDelayed,
		Groups: []groupObject{}, Proxies: []proxyObject{}, Listeners: []listenerObject{}, Unlocked: []unlockedObject{}, Resealing: []*resealingLine{},
	}
	for _, g := range s.Groups {
		o.Groups = append(o.Groups, groupObject{g.Name, g.Role, g.Leader, g.Term, g.Applied, g.Committed, g.LogEntries, g.StoreBytes, g.Voters})
	}
	for _, n := range s.Nodes {
		o.Nodes = append(o.Nodes, nodeObject{n.Name, n.Address, n.State, n.Up})
	}
	for _, sh := range s.Shards {
		x := shardObject{sh.Id, sh.Leader, sh.Applied, append([]string{}, sh.Wanted...), []replicaObject{}}
		for _, r := range sh.Replicas {
			x.Replicas = append(x.Replicas, replicaObject{r.Node, r.Voter, r.Joining, r.Behind, r.Problem})
		}
		o.Shards = append(o.Shards, x)
	}
	for _, x := range s.Proxies {
		o.Proxies = append(o.Proxies, proxyObject{x.Name, x.Pid, x.Since, x.Restarts, x.LastExit, x.ResidentBytes})
	}
	for _, l := range s.Listeners {
		o.Listeners = append(o.Listeners, listenerObject{l.Protocol, l.Address})
	}
	for _, r := range s.Resealing {
		o.Resealing = append(o.Resealing, resealingOf(r))
	}
	for _, u := range s.Unlocked {
		o.Unlocked = append(o.Unlocked, unlockedObject{u.Address, u.Sessions, readers(u)})
	}
	return p.jsonLine(o)
}

func (p *program) statusText(s *adminpb.StatusReply, problems []string) error {
	for _, w := range problems {
		fmt.Fprintln(p.stdout, "PROBLEM:", w)
	}
	if len(problems) == 0 {
		fmt.Fprintln(p.stdout, "All is well.")
	}
	up := time.Since(time.Unix(s.Started, 0)).Round(time.Second)
	fmt.Fprintf(p.stdout, "\nmailraft %s on %s, up for %v, %s in memory\n", s.Version, s.Hostname, up, progress.Octets(s.ResidentBytes))
	fmt.Fprintf(p.stdout, "mail at %s, data at %s (%s free)\n\n", s.Mount, s.Data, progress.Octets(s.FreeBytes))

	if s.LoginsFailed > 0 {
		fmt.Fprintf(p.stdout, "%d logins have failed since the start; %d more were made to wait because of such.\n\n", s.LoginsFailed, s.LoginsDelayed)
	}
	if len(s.Nodes) > 1 {
		if err := p.nodeTable(s.Nodes); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%d connections of strangers were refused since the start.\n\n", s.Refused)
	}
	if len(s.Nodes) > 1 {
		if err := p.shardTable(s.Shards); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout)
	}
	t := newTable(p.stdout, "GROUP", "ROLE", "LEADER", "VOTERS", "TERM", "APPLIED", "LOG ENTRIES", "ON DISK")
	for _, g := range s.Groups {
		t.row(g.Name, g.Role, g.Leader, strings.Join(g.Voters, ","), strconv.FormatUint(g.Term, 10), strconv.FormatUint(g.Applied, 10),
			strconv.FormatUint(g.LogEntries, 10), progress.Octets(g.StoreBytes))
	}
	if err := t.end(); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout)
	t = newTable(p.stdout, "PROXY", "PID", "SINCE", "RESTARTS", "IN MEMORY")
	for _, x := range s.Proxies {
		pid := "none"
		if x.Pid != 0 {
			pid = strconv.FormatInt(x.Pid, 10)
		}
		t.row(x.Name, pid, time.Unix(x.Since, 0).Format(time.DateTime), strconv.FormatInt(x.Restarts, 10), progress.Octets(x.ResidentBytes))
	}
	for _, l := range s.Listeners {
		t.row(l.Protocol, "listens on "+l.Address)
	}
	if err := t.end(); err != nil {
		return err
	}
	for i, r := range s.Resealing {
		if i == 0 {
			fmt.Fprintln(p.stdout)
		}
		fmt.Fprintf(p.stdout, "%s has a new key: %s. That goes on while it is unlocked.\n", r.Address, resealed(r))
	}
	if len(s.Unlocked) == 0 {
		fmt.Fprintln(p.stdout, "\nNo account is unlocked.")
		return nil
	}
	fmt.Fprintln(p.stdout)
	t = newTable(p.stdout, "UNLOCKED", "SESSIONS", "FOR")
	for _, u := range s.Unlocked {
		sessions := strconv.FormatInt(u.Sessions, 10)
		if u.Sessions == 0 {
			sessions = "none, locked soon"
		}
		who := "all"
		if u.Bound {
			who = uidText(u.Uids)
			if len(u.Uids) == 0 {
				who = "nobody" // it is kept unlocked for a new key alone
			}
		}
		t.row(u.Address, sessions, who)
	}
	return t.end()
}
