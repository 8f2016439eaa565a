package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the shards, as this node sees them", Args: cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			reply, err := c.ListShards(ctx, &adminpb.Empty{})
			if err != nil {
				return err
			}
			t := newTable(p.stdout, "SHARD", "LEADER", "VOTERS", "COPIES", "APPLIED")
			for _, s := range reply.Shards {
				leader, copies := s.Leader, strings.Join(s.Nonvoters, ",")
				if leader == "" {
					leader = "none"
				}
				if copies == "" {
					copies = "-"
				}
				t.row(strconv.FormatUint(uint64(s.Id), 10), leader, strings.Join(s.Voters, ","), copies, strconv.FormatUint(s.Applied, 10))
			}
			return t.end()
		}),
	})
	return cmd
}
