package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) unlock() *cobra.Command {
	var d time.Duration
	var fromStdin, asJSON bool
	cmd := &cobra.Command{
		Use:               "unlock ADDRESS",
		Short:             "Make an account's mail readable under the mount for some time",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().DurationVar(&d, "for", 10*time.Minute, "how long, at most a day")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from a line of standard input")
	jsonFlag(cmd, &asJSON, "an object; seconds is how long")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		password, err := p.secret(ctx, "Password of "+args[0]+": ", fromStdin)
		if err != nil {
			return err
		}
		defer clear(password)
		if d < time.Second {
			return usage("--for %v: at least a second", d)
		}
		seconds := int64(d / time.Second)
		if _, err := c.Unlock(ctx, &adminpb.UnlockRequest{Address: args[0], Password: password, Seconds: seconds}); err != nil {
			return err
		}
		return p.tell(asJSON, unlockLine{args[0], seconds}, "%s is unlocked for %v (lock it again with: mailraft lock %s)\n", args[0], d, args[0])
	})
	return cmd
}

// unlockLine is an unlocked account in JSON.
type unlockLine struct {
	Address string `json:"address"`
	Seconds int64  `json:"seconds"`
}

func (p *program) lock() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "lock ADDRESS",
		Short:             "Forget an account's key now, and end its sessions",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(unlockedAccounts, nil),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			reply, err := c.Lock(ctx, &adminpb.AccountRequest{Address: args[0]})
			if err != nil {
				return err
			}
			words := "%s was locked already\n"
			if reply.WasUnlocked {
				words = "%s is locked\n"
			}
			return p.tell(asJSON, lockLine{args[0], reply.WasUnlocked}, words, args[0])
		}),
	}
	jsonFlag(cmd, &asJSON, "an object")
	return cmd
}

// lockLine is a locked account in JSON.
type lockLine struct {
	Address     string `json:"address"`
	WasUnlocked bool   `json:"was_unlocked"`
}
