package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/daemon"
	"mailraft/raftstore"
)

const tokenHelp = `Print a token with which one machine can join the cluster as a node, once, until it expires: "mailraft join TOKEN" there. Who has it can
become a node, so hand it over as you would a password.`

func (p *program) token() *cobra.Command {
	life := time.Hour
	cmd := &cobra.Command{
		Use: "token", Short: "Print a token with which a machine can join the cluster", Long: tokenHelp, Args: cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			reply, err := c.MakeToken(ctx, &adminpb.TokenRequest{Seconds: int64(life / time.Second)})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, reply.Token)
			return err
		}),
	}
	cmd.Flags().DurationVar(&life, "expires", life, "how long it can be used")
	return cmd
}

const initHelp = `Make this machine the first node of a new cluster: its shards, and the authority that the other nodes get their certificates from. Its
data folder has to be empty. "mailraft serve" with an empty data folder does the same; "mailraft token" lets others join then.

The configuration has to give the node its name (node), and an address where the others reach it (cluster.listen, and cluster.advertise if that
has no host). How many shards there are (shards) cannot be changed later.`

func (p *program) init() *cobra.Command {
	cmd := &cobra.Command{Use: "init", Short: "Make this machine the first node of a new cluster", Long: initHelp, Args: cobra.NoArgs}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Sources{File: p.configFile, Flags: cmd.Flags()})
		if err != nil {
			return err
		}
		address, err := raftstore.Advertised(cfg.ClusterListen, cfg.ClusterAdvertise)
		if err != nil {
			return usage("cluster.listen: set where other nodes are to reach this one (%w)", err)
		}
		fingerprint, err := daemon.Init(cmd.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "this machine is node %s of a new cluster of %d shards; others will reach it at %s\n"+
			"fingerprint of the cluster's authority: %s\nstart it: mailraft serve\n", cfg.Node, cfg.Shards, address, fingerprint)
		return err
	}
	return cmd
}

const joinHelp = `Make a node of this machine: fetch its certificate from the cluster that the token is of. Its data folder has to be empty. Start it with
"mailraft serve" then; it gets its copies of the mail by itself.

The configuration has to give the node a name that no other has (node), and an address where the others reach it (cluster.listen, and
cluster.advertise if that has no host).`

func (p *program) join() *cobra.Command {
	cmd := &cobra.Command{Use: "join TOKEN", Short: "Make this machine a node of a cluster", Long: joinHelp, Args: cobra.ExactArgs(1)}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(config.Sources{File: p.configFile, Flags: cmd.Flags()})
		if err != nil {
			return err
		}
		address, err := raftstore.Advertised(cfg.ClusterListen, cfg.ClusterAdvertise)
		if err != nil {
			return usage("cluster.listen: set where the other nodes reach this one (%w)", err)
		}
		err = raftstore.Join(cmd.Context(), raftstore.JoinConfig{
			Dir: daemon.StoreFolder(cfg.Data), NodeID: cfg.Node, Address: address, Token: args[0],
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "this machine is node %s now; start it: mailraft serve\n", cfg.Node)
		return err
	}
	return cmd
}

func (p *program) node() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "The nodes of the cluster"}
	cmd.AddCommand(
		p.nodeList(),
		p.nodeChange("remove", "removed", "Take nodes out of the cluster for good: the others refuse them from now on"),
		p.nodeChange("drain", "draining", "Have other nodes vote instead of these, which go on serving"),
		p.nodeChange("undrain", "active", "Let nodes that were drained vote again"),
	)
	return cmd
}

func (p *program) nodeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the nodes", Args: cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			reply, err := c.ListNodes(ctx, &adminpb.Empty{})
			if err != nil {
				return err
			}
			return p.nodeTable(reply.Nodes)
		}),
	}
}

func (p *program) nodeTable(nodes []*adminpb.ClusterNode) error {
	t := newTable(p.stdout, "NODE", "ADDRESS", "STATE", "ANSWERS")
	for _, n := range nodes {
		t.row(n.Name, n.Address, n.State, map[bool]string{true: "yes", false: "no"}[n.Up])
	}
	return t.end()
}

func (p *program) nodeChange(verb, state, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE...", Short: short, Args: cobra.MinimumNArgs(1),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, names []string) error {
			for _, name := range names {
				if _, err := c.ChangeNode(ctx, &adminpb.ChangeNodeRequest{Name: name, State: state}); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(p.stdout, "node %s is %s\n", name, state); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (p *program) shard() *cobra.Command {
	cmd := &cobra.Command{Use: "shard", Short: "The groups that share the mailboxes"}
	cmd.AddCommand(p.shardList(), p.shardMove(),
		p.shardCommand("split-leaders", "Spread the shards' leaders over the nodes now, which happens by itself a while after they changed",
			"each shard is handed to the node that is to lead it", (*adminapi.Client).SplitLeaders),
		p.shardCommand("rebalance", "Even out how many shards the nodes have, as for a node that is new",
			"shards move, one after the other, until all nodes have their share: mailraft shard list", (*adminapi.Client).Rebalance))
	return cmd
}

func (p *program) shardList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the shards: who leads them, who votes, and how many entries each copy is behind", Args: cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			reply, err := c.ListShards(ctx, &adminpb.Empty{})
			if err != nil {
				return err
			}
			return p.shardTable(slices.DeleteFunc(reply.Shards, func(s *adminpb.ShardInfo) bool { return s.Id == 0 }))
		}),
	}
}

// shardTable lists shards, and the directory, which is number 0.
func (p *program) shardTable(shards []*adminpb.ShardInfo) error {
	t := newTable(p.stdout, "SHARD", "LEADER", "VOTERS", "COPIES", "BEHIND")
	for _, s := range shards {
		name, leader := strconv.FormatUint(uint64(s.Id), 10), s.Leader
		if s.Id == 0 {
			name = "directory"
		}
		if leader == "" {
			leader = "none"
		}
		var voters, copies, behind []string
		for _, r := range s.Replicas {
			if r.Voter {
				voters = append(voters, r.Node)
			} else {
				copies = append(copies, r.Node)
			}
			switch {
			case r.Problem != "":
				behind = append(behind, r.Node+" does not answer")
			case r.Joining:
				behind = append(behind, fmt.Sprintf("%s is copying (%d)", r.Node, r.Behind))
			case r.Behind > 0:
				behind = append(behind, fmt.Sprintf("%s %d", r.Node, r.Behind))
			}
		}
		t.row(name, leader, list(voters), list(copies), strings.Join(behind, ", "))
	}
	return t.end()
}

func list(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

func (p *program) shardMove() *cobra.Command {
	return &cobra.Command{
		Use: "move SHARD FROM TO", Short: "Move a shard's copy from one node to another, while mail flows", Args: cobra.ExactArgs(3),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usage("%q is not a shard's number: mailraft shard list", args[0])
			}
			if _, err := c.MoveShard(ctx, &adminpb.MoveShardRequest{Shard: uint32(id), From: args[1], To: args[2]}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "shard %d moves from %s to %s: mailraft shard list\n", id, args[1], args[2])
			return err
		}),
	}
}

func (p *program) shardCommand(
	use, short, done string, fn func(*adminapi.Client, context.Context, *adminpb.Empty, ...grpc.CallOption) (*adminpb.Empty, error),
) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			if _, err := fn(c, ctx, &adminpb.Empty{}); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.stdout, done)
			return err
		}),
	}
}
