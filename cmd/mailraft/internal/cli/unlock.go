package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) unlock() *cobra.Command {
	var d time.Duration
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "unlock ADDRESS",
		Short: "Make an account's mail readable under the mount for some time",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().DurationVar(&d, "for", 10*time.Minute, "how long, at most a day")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from a line of standard input")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		var password []byte
		if fromStdin {
			lines, err := p.lines(1)
			if err != nil {
				return err
			}
			password = lines[0]
		} else {
			var err error
			if password, err = p.askSecret(ctx, "Password of "+args[0]+": "); err != nil {
				return err
			}
		}
		defer clear(password)
		if d < time.Second {
			return usage("--for %v: at least a second", d)
		}
		_, err := c.Unlock(ctx, &adminpb.UnlockRequest{Address: args[0], Password: password, Seconds: int64(d / time.Second)})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s is unlocked for %v (lock it again with: mailraft lock %s)\n", args[0], d, args[0])
		return nil
	})
	return cmd
}

func (p *program) lock() *cobra.Command {
	return &cobra.Command{
		Use:   "lock ADDRESS",
		Short: "Forget an account's key now, and end its sessions",
		Args:  cobra.ExactArgs(1),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			reply, err := c.Lock(ctx, &adminpb.AccountRequest{Address: args[0]})
			if err != nil {
				return err
			}
			if reply.WasUnlocked {
				fmt.Fprintf(p.stdout, "%s is locked\n", args[0])
			} else {
				fmt.Fprintf(p.stdout, "%s was locked already\n", args[0])
			}
			return nil
		}),
	}
}
