package cli

import (
	"context"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) domain() *cobra.Command {
	cmd := &cobra.Command{Use: "domain", Short: "Domains that take mail here"}
	cmd.AddCommand(p.domainAdd(), p.domainRemove(), p.domainList())
	return cmd
}

func (p *program) domainAdd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME...",
		Short: "Take mail for domains",
		Args:  cobra.MinimumNArgs(1),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, names []string) error {
			for _, name := range names {
				if _, err := c.AddDomain(ctx, &adminpb.DomainRequest{Name: name}); err != nil {
					return err
				}
				if err := p.tell(asJSON, domainLine{name}, "added domain %s\n", name); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line, for each that was added")
	return cmd
}

func (p *program) domainRemove() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "remove NAME...",
		Short:             "Take no more mail for domains that have neither accounts nor aliases",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.complete(domains),
		RunE: p.asking(func(ctx context.Context, c *adminapi.Client, names []string) error {
			for _, name := range names {
				if _, err := c.RemoveDomain(ctx, &adminpb.DomainRequest{Name: name}); err != nil {
					return err
				}
				if err := p.tell(asJSON, domainLine{name}, "removed domain %s\n", name); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line, for each that was removed")
	return cmd
}

// domainLine is a domain in JSON.
type domainLine struct {
	Domain string `json:"domain"`
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
				if err := p.tell(asJSON, domainLine{name}, "%s\n", name); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	jsonFlag(cmd, &asJSON, "an object a line")
	return cmd
}
