package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) domain() *cobra.Command {
	cmd := &cobra.Command{Use: "domain", Short: "Domains that take mail here"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "add NAME...",
			Short: "Take mail for domains",
			Args:  cobra.MinimumNArgs(1),
			RunE: p.asking(func(ctx context.Context, c *adminapi.Client, names []string) error {
				for _, name := range names {
					if _, err := c.AddDomain(ctx, &adminpb.DomainRequest{Name: name}); err != nil {
						return err
					}
					fmt.Fprintf(p.stdout, "added domain %s\n", name)
				}
				return nil
			}),
		},
		&cobra.Command{
			Use:   "remove NAME...",
			Short: "Take no more mail for domains that have neither accounts nor aliases",
			Args:  cobra.MinimumNArgs(1),
			RunE: p.asking(func(ctx context.Context, c *adminapi.Client, names []string) error {
				for _, name := range names {
					if _, err := c.RemoveDomain(ctx, &adminpb.DomainRequest{Name: name}); err != nil {
						return err
					}
					fmt.Fprintf(p.stdout, "removed domain %s\n", name)
				}
				return nil
			}),
		},
		p.domainList(),
	)
	return cmd
}

func (p *program) domainList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the domains",
		Args:  cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, _ []string) error {
			reply, err := c.ListDomains(ctx, &adminpb.Empty{})
			if err != nil {
				return err
			}
			for _, name := range reply.Names {
				if asJSON {
					err = p.jsonLine(map[string]string{"domain": name})
				} else {
					_, err = fmt.Fprintln(p.stdout, name)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line")
	return cmd
}
