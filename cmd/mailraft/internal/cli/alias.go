package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) alias() *cobra.Command {
	cmd := &cobra.Command{Use: "alias", Short: "Addresses that stand for others"}
	cmd.AddCommand(p.aliasAdd(), p.aliasRemove(), p.aliasList())
	return cmd
}

func (p *program) aliasAdd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "add ADDRESS TARGET...",
		Short:             "Deliver mail for an address to accounts, or to other aliases",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: p.complete(newAddresses, targets),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			if _, err := c.AddAlias(ctx, &adminpb.Alias{Address: args[0], Targets: args[1:]}); err != nil {
				return err
			}
			return p.tell(asJSON, aliasLine{args[0], args[1:]}, "added alias %s for %s\n", args[0], strings.Join(args[1:], ", "))
		}),
	}
	jsonFlag(cmd, &asJSON, "the alias as an object")
	return cmd
}

func (p *program) aliasRemove() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "remove ADDRESS...",
		Short:             "Remove aliases",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.complete(aliases),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			for _, address := range args {
				if _, err := c.RemoveAlias(ctx, &adminpb.AccountRequest{Address: address}); err != nil {
					return err
				}
				if err := p.tell(asJSON, aliasLine{Alias: address}, "removed alias %s\n", address); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line, for each that was removed")
	return cmd
}

// aliasLine is an alias in JSON; one that was removed has no targets.
type aliasLine struct {
	Alias   string   `json:"alias"`
	Targets []string `json:"targets,omitempty"`
}

func (p *program) aliasList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list [DOMAIN]",
		Short:             "List the aliases, of one domain or of all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(domains, nil),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			stream, err := c.ListAliases(ctx, &adminpb.ListAliasesRequest{Domain: first(args)})
			if err != nil {
				return err
			}
			t := newTable(p.stdout)
			err = each(stream, func(a *adminpb.Alias) error {
				if asJSON {
					return p.jsonLine(aliasLine{a.Address, a.Targets})
				}
				t.row(a.Address, strings.Join(a.Targets, ", "))
				return nil
			})
			if err != nil {
				return err
			}
			return t.end()
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line")
	return cmd
}

// first is the first argument, or "".
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
