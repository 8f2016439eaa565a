package cli

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) unlock() *cobra.Command {
	var d time.Duration
	var fromStdin, asJSON bool
	var users []string
	cmd := &cobra.Command{
		Use:   "unlock ADDRESS",
		Short: "Make an account's mail readable under the mount for some time",
		Long: `Make an account's mail readable under the mount for some time: for all whom the files' permissions let, or with --uid for processes of
that user alone. All others, root too, are told EACCES (Permission denied), if nothing else unlocks the account for them. This keeps programs
from reading what they need not read: it does not keep out root, who can become any user.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().DurationVar(&d, "for", 10*time.Minute, "how long, at most a day")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from a line of standard input")
	cmd.Flags().StringSliceVar(&users, "uid", nil, "for processes of this `user` alone: a name or a number; may be given more than once")
	completeFlag(cmd, cobra.NoFileCompletions, "uid")
	jsonFlag(cmd, &asJSON, "an object; seconds is how long, uids for whom alone")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		uids, err := userIDs(users)
		if err != nil {
			return err
		}
		password, err := p.secret(ctx, "Password of "+args[0]+": ", fromStdin)
		if err != nil {
			return err
		}
		defer clear(password)
		if d < time.Second {
			return usage("--for %v: at least a second", d)
		}
		seconds := int64(d / time.Second)
		req := &adminpb.UnlockRequest{Address: args[0], Password: password, Seconds: seconds, Uids: uids}
		if _, err := c.Unlock(ctx, req); err != nil {
			return err
		}
		who := ""
		if len(uids) > 0 {
			who = " for " + uidText(uids)
		}
		return p.tell(asJSON, unlockLine{args[0], seconds, uids}, "%s is unlocked for %v%s (lock it again with: mailraft lock %s)\n", args[0], d, who, args[0])
	})
	return cmd
}

// uidText names user ids.
func uidText(uids []uint32) string { return "uid " + strings.Trim(fmt.Sprint(uids), "[]") }

// userIDs are the numbers of users, who may be given by name. A number needs no entry in /etc/passwd.
func userIDs(users []string) ([]uint32, error) {
	var uids []uint32
	for _, name := range users {
		number := name
		if u, err := user.Lookup(name); err == nil {
			number = u.Uid
		}
		uid, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, usage("--uid: there is no user %q", name)
		}
		uids = append(uids, uint32(uid))
	}
	return uids, nil
}

// unlockLine is an unlocked account in JSON.
type unlockLine struct {
	Address string   `json:"address"`
	Seconds int64    `json:"seconds"`
	UIDs    []uint32 `json:"uids,omitempty"`
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
