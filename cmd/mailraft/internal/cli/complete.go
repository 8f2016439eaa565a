package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/config"
)

// What a shell completes: names that the running daemon knows, and paths where a path is wanted. Without a daemon that answers at
// once nothing is offered, and nothing is said: the person is still typing.

// completionTime is how long a person who pressed Tab is kept waiting.
const completionTime = 2 * time.Second

// source offers what the daemon knows that may stand where typed stands now.
type source func(ctx context.Context, c *adminapi.Client, typed string, offer func(string)) error

// complete completes arguments: the first from the first source and so on, those behind them from the last. A nil source has
// nothing to offer.
func (p *program) complete(sources ...source) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		from := sources[min(len(args), len(sources)-1)]
		if from == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := p.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		var found []cobra.Completion
		from(ctx, c, typed, func(name string) { // what came before an error is offered
			if strings.HasPrefix(name, typed) && !slices.Contains(args, name) {
				found = append(found, name)
			}
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func domains(ctx context.Context, c *adminapi.Client, _ string, offer func(string)) error {
	reply, err := c.ListDomains(ctx, &adminpb.Empty{})
	for _, name := range reply.GetNames() {
		offer(name)
	}
	return err
}

// newAddresses are those of the local part that was typed, in each domain.
func newAddresses(ctx context.Context, c *adminapi.Client, typed string, offer func(string)) error {
	local, _, ok := strings.Cut(typed, "@")
	if !ok {
		return nil
	}
	return domains(ctx, c, "", func(domain string) { offer(local + "@" + domain) })
}

func accounts(ctx context.Context, c *adminapi.Client, _ string, offer func(string)) error {
	return eachAccount(ctx, c, func(a *adminpb.Account) { offer(a.Address) })
}

func unlockedAccounts(ctx context.Context, c *adminapi.Client, _ string, offer func(string)) error {
	return eachAccount(ctx, c, func(a *adminpb.Account) {
		if a.Unlocked {
			offer(a.Address)
		}
	})
}

func eachAccount(ctx context.Context, c *adminapi.Client, fn func(*adminpb.Account)) error {
	stream, err := c.ListAccounts(ctx, &adminpb.ListAccountsRequest{})
	if err != nil {
		return err
	}
	return each(stream, func(a *adminpb.Account) error { fn(a); return nil })
}

func aliases(ctx context.Context, c *adminapi.Client, _ string, offer func(string)) error {
	stream, err := c.ListAliases(ctx, &adminpb.ListAliasesRequest{})
	if err != nil {
		return err
	}
	return each(stream, func(a *adminpb.Alias) error { offer(a.Address); return nil })
}

// targets are what an alias may stand for.
func targets(ctx context.Context, c *adminapi.Client, typed string, offer func(string)) error {
	return errors.Join(accounts(ctx, c, typed, offer), aliases(ctx, c, typed, offer))
}

// Paths, which the shell completes itself.
var (
	completeFiles   = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	completeFolders = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
)

func oneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// once offers for the first argument alone.
func once(fn cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return fn(cmd, args, typed)
	}
}

// completeFlag completes the values of some of a command's flags.
func completeFlag(cmd *cobra.Command, fn cobra.CompletionFunc, names ...string) {
	for _, name := range names {
		if err := cmd.RegisterFlagCompletionFunc(name, fn); err != nil {
			panic(err) // there is no such flag
		}
	}
}

// configFlags adds the options as flags.
func configFlags(cmd *cobra.Command) {
	config.AddFlags(cmd.Flags())
	cmd.Flags().SortFlags = false
	completeFlag(cmd, completeFolders, "data", "mount", "run")
	completeFlag(cmd, completeFiles, "tls-cert", "tls-key")
	completeFlag(cmd, oneOf("debug", "info", "warn", "error"), "log-level")
	completeFlag(cmd, oneOf("auto", "text", "json"), "log-format")
}

// completions finishes what cobra completes by itself.
func completions(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	completeFlag(root, completeFiles, "config", "socket")
	root.InitDefaultCompletionCmd() // now, to be treated as the other commands are
}
