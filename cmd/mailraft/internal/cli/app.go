package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) appPassword() *cobra.Command {
	cmd := &cobra.Command{Use: "app-password", Short: "Passwords for one program each, which can be revoked alone"}
	cmd.AddCommand(p.appAdd(), p.appList(), p.appRemove())
	return cmd
}

func (p *program) appAdd() *cobra.Command {
	var fromStdin, asJSON bool
	var protocols []string
	cmd := &cobra.Command{
		Use:   "add ADDRESS NAME",
		Short: "Make an app password",
		Long: `Make a password for one of the owner's programs, and print it, once. It logs in like the account's own password and reads the same mail,
but changes nothing of the account. Removed, it logs in no more, and nothing else changes; so a phone that is lost is shut out.

The account's password is needed: it is what opens the account's private key. Another password of the account leaves app passwords as they
are, and so does a recovery code's being made; account recover ends them all.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().StringSliceVar(&protocols, "protocol", nil, "it is good for this alone: "+strings.Join(access.Protocols, ", ")+" (more than one, with commas; default all)")
	completeFlag(cmd, oneOf(access.Protocols...), "protocol")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the account's password from standard input")
	jsonFlag(cmd, &asJSON, "an object with the address, the name and the app password")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		req := &adminpb.AddAppPasswordRequest{Address: a.Address, Name: args[1], Protocols: protocols}
		if req.Password, err = p.secret(ctx, "Password of "+a.Address+": ", fromStdin); err != nil {
			return err
		}
		defer clear(req.Password)
		reply, err := c.AddAppPassword(ctx, req)
		if status.Code(err) == codes.Unauthenticated {
			return refused("the password of %s is wrong; nothing was changed", a.Address)
		}
		if err != nil {
			return err
		}
		defer clear(reply.AppPassword)
		made := struct {
			Address  string `json:"address"`
			Name     string `json:"name"`
			Password string `json:"app_password"`
		}{a.Address, req.Name, string(reply.AppPassword)}
		return p.tell(asJSON, made, "app password of %s for %s, which is not shown again:\n\n  %s\n\n", made.Address, made.Name, made.Password)
	})
	return cmd
}

// appLine is an app password in JSON.
type appLine struct {
	Name      string   `json:"name"`
	Protocols []string `json:"protocols,omitempty"` // none: all
	Created   int64    `json:"created"`
	LastUsed  int64    `json:"last_used,omitempty"` // to the hour
}

func (p *program) appList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list ADDRESS",
		Short:             "List an account's app passwords, and when each was used last",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	jsonFlag(cmd, &asJSON, "an object a line")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		reply, err := c.ListAppPasswords(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		if asJSON {
			for _, app := range reply.AppPasswords {
				if err := p.jsonLine(appLine{app.Name, app.Protocols, app.Created, app.LastUsed}); err != nil {
					return err
				}
			}
			return nil
		}
		t := newTable(p.stdout, "NAME", "GOOD FOR", "SINCE", "LAST USED")
		for _, app := range reply.AppPasswords {
			good, used := "all", "never"
			if len(app.Protocols) > 0 {
				good = strings.Join(app.Protocols, ", ")
			}
			if app.LastUsed != 0 {
				used = day(app.LastUsed)
			}
			t.row(app.Name, good, day(app.Created), used)
		}
		return t.end()
	})
	return cmd
}

func (p *program) appRemove() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "remove ADDRESS NAME",
		Short: "Revoke an app password",
		Long: `Revoke an app password: it logs in no more, and what it has opened is closed, on all nodes. The account's private key stays what it is:
whoever has both the app password and a copy of the node's disk from before reads what was stored until now, and has the key to what comes.
Against the latter, mailraft account rekey helps.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	jsonFlag(cmd, &asJSON, "an object with the address and the name")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		req := &adminpb.AppPasswordRequest{Address: args[0], Name: args[1]}
		if _, err := c.RemoveAppPassword(ctx, req); err != nil {
			return err
		}
		removed := struct {
			Address string `json:"address"`
			Name    string `json:"name"`
		}{req.Address, req.Name}
		return p.tell(asJSON, removed, "removed the app password of %s for %s\n", req.Address, req.Name)
	})
	return cmd
}
