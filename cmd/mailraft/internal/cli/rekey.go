package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/progress"
)

func (p *program) accountRekey() *cobra.Command {
	var fromStdin, recovery, newPassword, resume, yes, asJSON bool
	var key string
	cmd := &cobra.Command{
		Use:   "rekey ADDRESS",
		Short: "Give an account a new key pair, and seal what it stores to it, while mail flows",
		Long: `Give an account a new key pair, for when the one that it has may be known to somebody: a password that leaked together with a copy of a
disk or of a backup, an app password or a recovery code that was lost together with one. What is stored is sealed to the new key, message by
message, no faster than cluster.catchup_bandwidth, while mail comes in and is read. What somebody has copied before he reads all the same.

The account's password is needed, and stays what it is (--new-password asks for another), or with --recovery the recovery code, and a new
password. Whatever else opened the account does so no more, and who is logged in is logged out: app passwords have to be made again, and of a
recovery code the next is printed, once.

The command ends when all is sealed to the new key. When it is stopped, or the node dies, what is left waits until the account is unlocked
again, by a login on any node or by --resume; mailraft account list shows how far it is.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	flags := cmd.Flags()
	flags.BoolVar(&recovery, "recovery", false, "by the recovery code, without the password; it is used up")
	flags.BoolVar(&newPassword, "new-password", false, "set another password too")
	flags.BoolVar(&resume, "resume", false, "no new key pair: go on with what was begun")
	flags.BoolVar(&fromStdin, "password-stdin", false, "read the password or the recovery code, and then the new password if there is to be one, from standard input, a line each")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.StringVar(&key, "key", "", "kind of the new key pair: hybrid or x25519 (default as the one before)")
	completeFlag(cmd, keyKinds, "key")
	jsonFlag(cmd, &asJSON, "an object when it has begun, with the recovery code and the app passwords that are gone, and one when it is done")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		if resume && (recovery || newPassword || key != "") {
			return usage("--resume goes on with the key pair that there is: it takes the password, and none of --recovery, --new-password and --key")
		}
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		req := &adminpb.RekeyRequest{Address: a.Address, Key: key, Resume: resume}
		if !resume && !yes {
			if err := p.confirmRekey(ctx, c, a); err != nil {
				return err
			}
		}
		switch {
		case recovery:
			req.Code, req.New, err = p.codeAndNew(ctx, a.Address, fromStdin)
		case newPassword:
			req.Password, req.New, err = p.oldAndNew(ctx, a.Address, fromStdin, true)
		default:
			req.Password, err = p.secret(ctx, "Password of "+a.Address+": ", fromStdin)
		}
		if err != nil {
			return err
		}
		defer clear(req.Password)
		defer clear(req.Code)
		defer clear(req.New)
		stream, err := c.RekeyAccount(ctx, req)
		if err != nil {
			return err
		}
		first, err := stream.Recv()
		if status.Code(err) == codes.Unauthenticated {
			what := "password"
			if recovery {
				what = "recovery code"
			}
			return refused("that is not the %s of %s; nothing was changed", what, a.Address)
		}
		if err != nil {
			return err
		}
		if !resume {
			if err := p.showRekeyed(asJSON, a.Address, first); err != nil {
				return err
			}
		}
		return p.followRekey(asJSON, a.Address, stream)
	})
	return cmd
}

// confirmRekey says what a new key pair ends.
func (p *program) confirmRekey(ctx context.Context, c *adminapi.Client, a *adminpb.Account) error {
	apps, err := c.ListAppPasswords(ctx, &adminpb.AccountRequest{Address: a.Address})
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("This gives %s a new key pair, and seals what is stored (%s in %d files) to it. Who is logged in is logged out, and a recovery code\n"+
		"that was made before is no longer good: if there is one, the next is printed.", a.Address, progress.Octets(a.Bytes), a.Files)
	if len(apps.AppPasswords) > 0 {
		var names []string
		for _, app := range apps.AppPasswords {
			names = append(names, app.Name)
		}
		warning += fmt.Sprintf("\nIts app passwords end, and have to be made again: %s.", strings.Join(names, ", "))
	}
	if r := a.Resealing; r != nil {
		warning += fmt.Sprintf("\nIt got a new key pair already: %s. To go on with that one, use --resume.", resealed(r))
	}
	return p.confirm(ctx, warning, a.Address)
}

// resealed says how far an account is.
func resealed(r *adminpb.Resealing) string {
	if r.TotalFiles == 0 {
		return "what is stored is being sealed to it"
	}
	return fmt.Sprintf("%d of %d files are sealed to it", r.Files, r.TotalFiles)
}

// showRekeyed says what has been done, and what no longer opens the account.
func (p *program) showRekeyed(asJSON bool, address string, r *adminpb.RekeyReply) error {
	if asJSON {
		return p.jsonLine(struct {
			Address string   `json:"address"`
			Code    string   `json:"recovery_code,omitempty"`
			Apps    []string `json:"app_passwords_removed"`
		}{address, formatRecovery(r.Code), append([]string{}, r.AppPasswords...)})
	}
	fmt.Fprintf(p.stdout, "gave %s a new key pair; mail that comes is sealed to it from now on\n", address)
	if len(r.AppPasswords) > 0 {
		fmt.Fprintf(p.stdout, "app passwords that are no longer good: %s\n", strings.Join(r.AppPasswords, ", "))
	}
	if len(r.Code) == 0 {
		return nil
	}
	return p.showRecovery(false, address, r.Code)
}

// rekeyedLine is, in JSON, an account whose contents are all sealed to its key.
type rekeyedLine struct {
	Address string `json:"address"`
	Files   uint64 `json:"files"`
	Octets  uint64 `json:"sealed_octets"`
}

// followRekey shows how far it is, to the end.
func (p *program) followRekey(asJSON bool, address string, stream interface {
	Recv() (*adminpb.RekeyReply, error)
}) error {
	meter := progress.New(p.stderr, "sealing "+address+" to its new key", "files")
	var last *adminpb.Resealing
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) && last != nil {
			meter.Stop()
			return p.tell(asJSON, rekeyedLine{address, last.Files, last.Octets}, "all %d files of %s (%s as they are sealed) are sealed to its new key\n",
				last.Files, address, progress.Octets(last.Octets))
		}
		if err != nil {
			meter.Stop()
			fmt.Fprintf(p.stderr, "%s has its new key. What is left to be sealed to it waits until the account is unlocked, or for: mailraft account rekey --resume %s\n",
				address, address)
			return err
		}
		now := r.Resealing
		if now == nil || now.TotalFiles == 0 && last != nil {
			continue
		}
		if last == nil {
			meter.Expect(now.TotalFiles, now.TotalOctets)
			meter.Skip(now.Files, now.Octets)
		} else { // mail comes and goes: a difference may be below 0, and adds up all the same
			meter.Expect(now.TotalFiles-last.TotalFiles, now.TotalOctets-last.TotalOctets)
			meter.Add(now.Files-last.Files, now.Octets-last.Octets)
		}
		last = now
	}
}
