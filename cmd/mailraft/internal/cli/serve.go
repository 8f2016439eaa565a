package cli

import (
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/child"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/daemon"
	"mailraft/cmd/mailraft/internal/harden"
	"mailraft/cmd/mailraft/internal/logging"
)

const serveHelp = `Run a node: mount the mail, take and serve it.

Each option is also a line of the configuration file and a variable of the environment: --smtp-listen is listen in [smtp]
and MAILRAFT_SMTP_LISTEN. Flags win over the environment, which wins over the file. "mailraft config sample" prints a file
with all options described. Lists are separated by commas, sizes are like 50M or 1G, times like 30s or 10m.

SIGTERM and SIGINT stop the node, after commands under way have ended; SIGHUP reads the certificate again.`

func (p *program) serve() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long:  serveHelp,
		Args:  cobra.NoArgs,
	}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := harden.Overwrite(); err != nil {
			return err
		}
		cfg, err := config.Load(config.Sources{File: p.configFile, Flags: cmd.Flags()})
		if err != nil {
			return err
		}
		reload, stop := hangups()
		defer stop()
		return p.runDaemon(cmd, cfg, daemon.Signals{Reload: reload})
	}
	return cmd
}

func (p *program) runDaemon(cmd *cobra.Command, cfg *config.Config, signals daemon.Signals) error {
	log, err := logging.New(os.Stderr, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return usage("%w", err)
	}
	slog.SetDefault(log)
	return daemon.Run(cmd.Context(), cfg, log, signals)
}

// hangups turns SIGHUP into requests to reload.
func hangups() (reload <-chan struct{}, stop func()) {
	in, out, done := make(chan os.Signal, 1), make(chan struct{}, 1), make(chan struct{})
	signal.Notify(in, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-in:
			case <-done:
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { signal.Stop(in); close(done) }
}

func (p *program) proxy() *cobra.Command {
	return &cobra.Command{
		Use:       "proxy smtp|imap|pop3",
		Short:     "A proxy process (started by serve)",
		Hidden:    true,
		ValidArgs: []string{"smtp", "imap", "pop3"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			return child.Run(args[0])
		},
	}
}

func (p *program) guard() *cobra.Command {
	return &cobra.Command{
		Use:    "guard MOUNTS",
		Short:  "A process that ends the mounts when the daemon has died (started by serve)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			mounts, err := strconv.Atoi(args[0])
			if err != nil {
				return usage("%q is no number of mounts", args[0])
			}
			return child.Guard(mounts)
		},
	}
}
