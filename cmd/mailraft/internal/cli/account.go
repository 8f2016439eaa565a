package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/progress"
)

func (p *program) account() *cobra.Command {
	cmd := &cobra.Command{Use: "account", Short: "Mailboxes and their owners"}
	cmd.AddCommand(p.accountAdd(), p.accountRemove(), p.accountList(), p.accountPasswd(), p.accountRecover(), p.accountRekey(), p.accountQuota(), p.accountMove())
	return cmd
}

func (p *program) accountRemove() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:               "remove ADDRESS",
		Short:             "Remove an account with all its mail",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	jsonFlag(cmd, &asJSON, "an object with the address")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		if !yes {
			warning := fmt.Sprintf("This removes %s with all its mail (%s in %d files). It cannot be undone.", a.Address, progress.Octets(a.Bytes), a.Files)
			if err := p.confirm(ctx, warning, a.Address); err != nil {
				return err
			}
		}
		if _, err := c.RemoveAccount(ctx, &adminpb.AccountRequest{Address: a.Address}); err != nil {
			return err
		}
		return p.tell(asJSON, addressLine{a.Address}, "removed account %s\n", a.Address)
	})
	return cmd
}

// addressLine is, in JSON, an account of which there is no more to tell.
type addressLine struct {
	Address string `json:"address"`
}

// accountLine is an account in JSON.
type accountLine struct {
	Address    string `json:"address"`
	Number     uint32 `json:"number"`
	Shard      uint32 `json:"shard"`
	MovingTo   uint32 `json:"moving_to,omitempty"`
	Key        string `json:"key"`
	Recipient  string `json:"recipient"`
	Created    int64  `json:"created"`
	Bytes      uint64 `json:"bytes"`
	Files      uint64 `json:"files"`
	QuotaBytes uint64 `json:"quota_bytes"`
	QuotaFiles uint64 `json:"quota_files"`
	Unlocked   bool   `json:"unlocked"`
	Pinned     bool   `json:"pinned,omitempty"`

	Resealing *resealingLine `json:"resealing,omitempty"`
}

// resealingLine says, in JSON, how far an account is with what is sealed to its new key; total_files is 0 when that is not known now.
type resealingLine struct {
	Address     string `json:"address"`
	Files       uint64 `json:"files"`
	Octets      uint64 `json:"sealed_octets"`
	TotalFiles  uint64 `json:"total_files"`
	TotalOctets uint64 `json:"total_sealed_octets"`
}

func resealingOf(r *adminpb.Resealing) *resealingLine {
	if r == nil {
		return nil
	}
	return &resealingLine{r.Address, r.Files, r.Octets, r.TotalFiles, r.TotalOctets}
}

func lineOf(a *adminpb.Account) accountLine {
	return accountLine{
		Address: a.Address, Number: a.Number, Shard: a.Shard, MovingTo: a.MovingTo, Key: a.Key, Recipient: a.Recipient, Created: a.Created,
		Bytes: a.Bytes, Files: a.Files, QuotaBytes: a.QuotaBytes, QuotaFiles: a.QuotaFiles, Unlocked: a.Unlocked,
		Pinned:    a.Pinned,
		Resealing: resealingOf(a.Resealing),
	}
}

func (p *program) accountList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list [DOMAIN]",
		Short:             "List the accounts, of one domain or of all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(domains, nil),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			stream, err := c.ListAccounts(ctx, &adminpb.ListAccountsRequest{Domain: first(args)})
			if err != nil {
				return err
			}
			var t *table
			if !asJSON {
				t = newTable(p.stdout, "ADDRESS", "STORED", "FILES", "QUOTA", "KEY", "SINCE", "STATE")
			}
			err = each(stream, func(a *adminpb.Account) error {
				if asJSON {
					return p.jsonLine(lineOf(a))
				}
				state := "locked"
				if a.Unlocked {
					state = "unlocked"
				}
				if a.MovingTo != 0 {
					state += fmt.Sprint(", moves to shard ", a.MovingTo)
				}
				if r := a.Resealing; r != nil {
					state += ", has a new key: " + resealed(r)
				}
				t.row(a.Address, progress.Octets(a.Bytes), strconv.FormatUint(a.Files, 10), limit(a.QuotaBytes), keyOf(a), day(a.Created), state)
				return nil
			})
			if err != nil || asJSON {
				return err
			}
			return t.end()
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line")
	return cmd
}

// keyOf is the kind of key that an account's messages are sealed to.
func keyOf(a *adminpb.Account) string {
	if a.Pinned {
		return a.Key + ", its owner's"
	}
	return a.Key
}

func (p *program) accountQuota() *cobra.Command {
	var files uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "quota ADDRESS [SIZE|none]",
		Short:             "Show or set how much an account may store",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().Uint64Var(&files, "files", 0, "how many files it may store; 0: any number")
	jsonFlag(cmd, &asJSON, "the account as an object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		setFiles := cmd.Flags().Changed("files")
		return p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
			if err != nil {
				return err
			}
			if len(args) == 2 || setFiles {
				req := &adminpb.SetQuotaRequest{Address: a.Address, Bytes: a.QuotaBytes, Files: a.QuotaFiles}
				if len(args) == 2 {
					if req.Bytes, err = parseLimit(args[1]); err != nil {
						return err
					}
				}
				if setFiles {
					req.Files = files
				}
				if _, err := c.SetQuota(ctx, req); err != nil {
					return err
				}
				a.QuotaBytes, a.QuotaFiles = req.Bytes, req.Files
			}
			if asJSON {
				return p.jsonLine(lineOf(a))
			}
			_, err = fmt.Fprintf(p.stdout, "%s stores %s of %s in %d of %s files\n", a.Address,
				progress.Octets(a.Bytes), unlimited(progress.Octets(a.QuotaBytes), a.QuotaBytes), a.Files, unlimited(strconv.FormatUint(a.QuotaFiles, 10), a.QuotaFiles))
			return err
		})(cmd, args)
	}
	return cmd
}

func (p *program) accountMove() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "move ADDRESS SHARD",
		Short: "Move an account to another shard, while mail flows",
		Long: `Move an account with all its mail to another shard, as mailraft shard list shows them. It is copied while mail flows, and changes
to it wait only for the last moment of that. UIDs and MODSEQs stay what they are, so mail clients notice nothing.

The command ends when the account is there. When it is stopped, the move goes on: mailraft account list shows it.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	jsonFlag(cmd, &asJSON, "the account as an object")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		shard, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return usage("%q is not a shard's number: mailraft shard list", args[1])
		}
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		if _, err := c.MoveAccount(ctx, &adminpb.MoveAccountRequest{Address: a.Address, Shard: uint32(shard)}); err != nil {
			return err
		}
		from := a.Shard
		if a, err = c.GetAccount(ctx, &adminpb.AccountRequest{Address: a.Address}); err != nil {
			return err
		}
		return p.tell(asJSON, lineOf(a), "moved %s from shard %d to shard %d\n", a.Address, from, a.Shard)
	})
	return cmd
}

func unlimited(shown string, n uint64) string {
	if n == 0 {
		return "unlimited"
	}
	return shown
}

// parseLimit reads a size; "none" and 0 are no limit.
func parseLimit(s string) (uint64, error) {
	if strings.EqualFold(s, "none") {
		return 0, nil
	}
	n, err := config.ParseSize(s)
	if err != nil {
		return 0, usage("quota: %w", err)
	}
	return uint64(n), nil
}

func (p *program) accountPasswd() *cobra.Command {
	var fromStdin, discard, yes, asJSON bool
	var key string
	cmd := &cobra.Command{
		Use:   "passwd ADDRESS",
		Short: "Change an account's password",
		Long: `Change an account's password. The old one is needed: it is what opens the account's private key, which is then sealed under
the new one. The mail itself is not touched.

Nobody has a copy of that key, the admin neither. When the old password is lost, a recovery code opens it (mailraft account recover). Without
one so is the mail: --discard-mail-key makes a new key pair under the new password, with which new mail can be read; what was stored before can
never be read again, by a recovery code neither. The mail of an account that was made with --public-key is not touched by that: it is sealed to
its owner's key as before.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	flags := cmd.Flags()
	flags.BoolVar(&fromStdin, "password-stdin", false, "read the old and the new password (with --discard-mail-key only the new) from standard input, a line each")
	flags.BoolVar(&discard, "discard-mail-key", false, "without the old password: a new key pair; all mail that is stored becomes unreadable for ever")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.StringVar(&key, "key", "", "kind of the new key pair, with --discard-mail-key: hybrid or x25519 (default hybrid)")
	completeFlag(cmd, keyKinds, "key")
	jsonFlag(cmd, &asJSON, "an object with the address")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		req := &adminpb.SetPasswordRequest{Address: a.Address, Discard: discard, Key: key}
		if discard && !yes {
			warning := fmt.Sprintf("This makes all mail that %s has stored (%s in %d files) unreadable for ever, for everybody.", a.Address, progress.Octets(a.Bytes), a.Files)
			if a.Pinned {
				warning = fmt.Sprintf("This sets a new password for %s without the old one. Its mail stays, sealed to its owner's key; its subscriptions, and the names of its keywords, become unreadable.", a.Address)
			}
			if err := p.confirm(ctx, warning, a.Address); err != nil {
				return err
			}
		}
		if req.Old, req.New, err = p.oldAndNew(ctx, a.Address, fromStdin, !discard); err != nil {
			return err
		}
		defer clear(req.Old)
		defer clear(req.New)
		_, err = c.SetPassword(ctx, req)
		if status.Code(err) == codes.Unauthenticated {
			return refused("the old password of %s is wrong; nothing was changed.\n"+
				"Without it nobody can keep the stored mail readable: it opens the account's only private key. If it is lost,\n"+
				"--discard-mail-key gives the account a new key and makes what is stored unreadable for ever", a.Address)
		}
		if err != nil {
			return err
		}
		return p.tell(asJSON, addressLine{a.Address}, "changed the password of %s\n", a.Address)
	})
	return cmd
}

func (p *program) oldAndNew(ctx context.Context, address string, fromStdin, withOld bool) (old, new []byte, err error) {
	if fromStdin {
		n := 1
		if withOld {
			n = 2
		}
		lines, err := p.lines(n)
		if err != nil {
			return nil, nil, err
		}
		if withOld {
			old = lines[0]
		}
		return old, lines[n-1], nil
	}
	if withOld {
		if old, err = p.askSecret(ctx, "Old password of "+address+": "); err != nil {
			return nil, nil, err
		}
	}
	new, err = p.askNewSecret(ctx, address)
	return old, new, err
}
