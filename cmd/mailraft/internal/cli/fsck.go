package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/daemon"
	"mailraft/cmd/mailraft/internal/fsck"
	"mailraft/raftstore"
)

func (p *program) fsck() *cobra.Command {
	var data string
	var cluster bool
	c := &check{program: p}
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Walk over all that is stored, and say what is wrong with it",
		Long: `Walk over all that is stored, and say what is wrong with it: logs, trees, counts, key slots, the headers of what is sealed,
pieces that belong to nothing, accounts without a mailbox and mailboxes without an account. It needs no key, and repairs nothing of
what it finds.

The daemon does it while it runs. When it is stopped, --data names its data folder. The store is then opened as at every start of
the daemon, which writes to it: the torn end that a crash left of a log is cleared, what was committed and not yet applied is
applied, accounts that were half made or half removed are dropped, and so are contents that no message has named for a day. To have
nothing changed, check a copy of the folder.

With --cluster, all nodes read all that they store, each group's replicas as they were at one moment, while mail flows, and those that differ
from others, or can't be compared, are named.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&data, "data", "", "the data `folder` of a daemon that does not run")
	cmd.Flags().BoolVar(&cluster, "cluster", false, "compare the replicas on all nodes instead")
	cmd.MarkFlagsMutuallyExclusive("data", "cluster")
	completeFlag(cmd, completeFolders, "data")
	jsonFlag(cmd, &c.json, "an object a line for each problem: group, where, problem")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if data != "" {
			if err := c.offline(cmd.Context(), data); err != nil {
				return err
			}
			return c.end()
		}
		err := p.asking(func(ctx context.Context, client *adminapi.Client, _ []string) error {
			ask := client.Check
			if cluster {
				ask = client.Compare
				c.praise = "All replicas are the same."
				c.advice = "remove a node whose replica differs, and join it anew with an empty data folder"
			}
			if err := c.online(ctx, ask); err != nil {
				return err
			}
			return c.end()
		})(cmd, args)
		if errors.Is(err, adminapi.ErrNotRunning) {
			err = fmt.Errorf("%w; or check its data folder: mailraft fsck --data DATA", err)
		}
		return err
	}
	return cmd
}

// check tells of problems as they are found.
type check struct {
	*program
	json   bool
	praise string // said when nothing is found; "": of a node
	advice string // said when something is
	found  int
}

func (c *check) report(p fsck.Problem) {
	c.found++
	if c.json {
		c.jsonLine(map[string]string{"group": p.Group, "where": p.Where, "problem": p.What})
		return
	}
	fmt.Fprintln(c.stdout, "PROBLEM:", p)
}

func (c *check) end() error {
	if c.found > 0 {
		if !c.json {
			fmt.Fprintf(c.stdout, "%d problems; %s\n", c.found, cmp.Or(c.advice, "restore this node from a backup, or remove what is named"))
		}
		return errSilent
	}
	if !c.json {
		fmt.Fprintln(c.stdout, cmp.Or(c.praise, "All that is stored is as it should be."))
	}
	return nil
}

type askCheck func(context.Context, *adminpb.Empty, ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.CheckReply], error)

func (c *check) online(ctx context.Context, ask askCheck) error {
	stream, err := ask(ctx, &adminpb.Empty{})
	if err != nil {
		return err
	}
	return each(stream, func(reply *adminpb.CheckReply) error {
		c.report(fsck.Problem{Group: reply.Group, Where: reply.Where, What: reply.Problem})
		return nil
	})
}

// offline opens the store itself. That also does what every start does: it ends what a crash cut short.
func (c *check) offline(ctx context.Context, data string) (err error) {
	node, err := daemon.NodeName(data)
	if err != nil {
		return fmt.Errorf("%s is not the data folder of a node: %w", filepath.Clean(data), err)
	}
	store, err := raftstore.Open(ctx, raftstore.Config{
		Dir: daemon.StoreFolder(data), NodeID: node, Existing: true, Logger: slog.New(slog.DiscardHandler),
	})
	if errors.Is(err, raftstore.ErrLocked) {
		return refused("a daemon runs on %s; without --data, fsck asks it", filepath.Clean(data))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return fsck.Check(store, c.report)
}
