package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/config"
)

// program is what the commands share.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	configFile string
	socket     string
}

// Main runs a command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	root := p.root()
	root.SetArgs(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	defer stop()
	err := root.ExecuteContext(ctx)
	e, words := exitOf(err)
	var f *failure
	if err != nil && !(errors.As(err, &f) && f.quiet) {
		fmt.Fprintln(stderr, "mailraft:", words)
	}
	return e.code
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "mailraft",
		Short:         "Mail, sealed and replicated, seen through a mounted file system",
		Long:          "Mail, sealed and replicated, seen through a mounted file system.\n\n" + exitHelp(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage("%w (see: %s --help)", err, cmd.CommandPath()) })
	flags := root.PersistentFlags()
	flags.StringVarP(&p.configFile, "config", "c", "", "configuration `file` (default: $"+config.EnvFile+", then "+config.DefaultFile+" if it is there)")
	flags.StringVar(&p.socket, "socket", "", "the daemon's admin `socket` (default: $"+socketEnv+", then admin.sock in the configured run folder)")
	root.AddCommand(
		p.serve(), p.quickstart(), p.config(), p.proxy(), p.guard(), p.domain(), p.account(), p.recovery(), p.appPassword(), p.alias(), p.checkPassword(), p.unlock(), p.lock(), p.status(),
		p.cat(), p.fsck(), p.export(), p.importMail(), p.backup(), p.restore(), p.init(), p.token(), p.join(), p.node(), p.shard(), p.version(),
	)
	completions(root)
	namedArguments(root)
	return root
}

// namedArguments makes wrong arguments end as wrong usage, with the command's synopsis.
func namedArguments(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("%w; usage: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage("there is no command %q (see: %s --help)", cmd.CommandPath()+" "+strings.Join(args, " "), cmd.CommandPath())
		}
	}
	for _, sub := range cmd.Commands() {
		namedArguments(sub)
	}
}

// socketEnv is the variable that names the admin socket.
const socketEnv = "MAILRAFT_SOCKET"

// adminSocket is where the daemon should be.
func (p *program) adminSocket() (string, error) {
	if p.socket != "" {
		return p.socket, nil
	}
	if s := os.Getenv(socketEnv); s != "" {
		return s, nil
	}
	cfg, err := config.Load(config.Sources{File: p.configFile})
	if err != nil {
		return "", err
	}
	return cfg.AdminSocket(), nil
}

func (p *program) dial() (*adminapi.Client, error) {
	socket, err := p.adminSocket()
	if err != nil {
		return nil, err
	}
	return adminapi.Dial(socket)
}

// asking makes a command's function of one that asks the daemon.
func (p *program) asking(fn func(ctx context.Context, c *adminapi.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := p.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return fn(cmd.Context(), c, args)
	}
}
