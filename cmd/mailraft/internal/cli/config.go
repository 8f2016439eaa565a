package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/config"
)

func (p *program) config() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show the configuration"}
	sample := &cobra.Command{
		Use:   "sample",
		Short: "Print a configuration file with all options described",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(p.stdout, config.Sample())
			return err
		},
	}
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration that serve would use, from file and environment",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(config.Sources{File: p.configFile})
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(p.stdout, cfg.Document(func(string) bool { return true }))
			return err
		},
	}
	cmd.AddCommand(sample, show)
	return cmd
}
