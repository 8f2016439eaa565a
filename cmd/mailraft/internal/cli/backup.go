package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/backup"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/daemon"
	"mailraft/cmd/mailraft/internal/fsck"
	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/raftstore"
)

const makeIdentity = "make a key with: (umask 077; age-keygen -o backup.key), keep it away from this machine, and name the public key that it " +
	"prints: --recipient age1..."

func (p *program) backup() *cobra.Command {
	var recipients []string
	var account, identity string
	var verify, quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "backup FOLDER",
		Short: "Copy the cluster, or an account, sealed, to a folder",
		Long: `Copy all accounts, domains and aliases, or one account, to a folder, as they are at one moment; mail goes on coming and being read.
Messages stay sealed to their owners. All else (names, flags, key slots) is encrypted to --recipient, an age public key, which the
folder remembers: its private key is needed to restore, and not to back up.

Run it again for the same folder, and what is there already does not go again. A run that was cut off is made good by the next one.
With --verify nothing is written: all that is in the folder is read and checked, for which the private key is needed.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFolders,
	}
	cmd.Flags().StringSliceVar(&recipients, "recipient", nil, "an age `key` that names, flags and key slots are encrypted to (default: those of the last run)")
	cmd.Flags().StringVar(&account, "account", "", "just this account's `address`")
	cmd.Flags().BoolVar(&verify, "verify", false, "check what is in the folder, instead")
	cmd.Flags().StringVar(&identity, "identity-file", "", "a `file` with the recipient's private key, for --verify")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not show how far it is")
	jsonFlag(cmd, &asJSON, "an object: accounts, changed, contents, octets; with --verify one a line for each problem")
	completeFlag(cmd, p.complete(accounts), "account")
	completeFlag(cmd, completeFiles, "identity-file")
	completeFlag(cmd, cobra.NoFileCompletions, "recipient")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if verify {
			return p.verifyBackup(cmd.Context(), args[0], identity, quiet, asJSON)
		}
		return p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			account, err := asWritten(account)
			if err != nil {
				return err
			}
			src, err := c.BackupSource(ctx, account)
			if err != nil {
				return err
			}
			meter := p.meter(quiet, "backing up")
			r, err := backup.Write(ctx, args[0], recipients, account, src, meter)
			meter.Stop()
			if errors.Is(err, backup.ErrNoRecipient) {
				return usage("whom shall the backup be encrypted to? %s", makeIdentity)
			}
			if err != nil {
				return err
			}
			return p.tell(asJSON, r, "backed up %d accounts to %s: %d changed, %d new messages of %s\n", r.Accounts, args[0], r.Changed, r.Contents, progress.Octets(r.Octets))
		})(cmd, args)
	}
	return cmd
}

// asWritten is the address given by --account in the form in which it is kept; "": none was given.
func asWritten(account string) (string, error) {
	if account == "" {
		return "", nil
	}
	local, domain, err := raftstore.SplitAddress(account)
	if err != nil {
		return "", usage("--account: %w", err)
	}
	return local + "@" + domain, nil
}

func (p *program) meter(quiet bool, what string) *progress.Meter {
	if quiet {
		return nil
	}
	return progress.New(p.stderr, what, "messages")
}

func identities(file string) ([]age.Identity, error) {
	if file == "" {
		return nil, usage("name the file with the private key that the backup is encrypted to: --identity-file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := age.ParseIdentities(f)
	if err != nil {
		return nil, usage("%s: %w", file, err)
	}
	return list, nil
}

func (p *program) verifyBackup(ctx context.Context, dir, identity string, quiet, asJSON bool) error {
	keys, err := identities(identity)
	if err != nil {
		return err
	}
	found := 0
	report := func(err error) {
		found++
		if asJSON {
			p.jsonLine(map[string]string{"problem": err.Error()})
			return
		}
		fmt.Fprintln(p.stdout, "PROBLEM:", err)
	}
	meter := p.meter(quiet, "checking")
	b, err := backup.Open(dir, keys)
	if err == nil {
		if _, err = backup.ReadManifest(dir, "", keys); err == nil {
			err = b.Verify(ctx, report, meter)
		}
	}
	meter.Stop()
	if errors.Is(err, backup.ErrDamaged) {
		report(err)
		err = nil
	}
	if err != nil {
		return err
	}
	if found > 0 {
		return errSilent
	}
	if !asJSON {
		fmt.Fprintf(p.stdout, "All that is in %s is as it was written.\n", dir)
	}
	return nil
}

func (p *program) restore() *cobra.Command {
	var account, identity, manifest string
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "restore FOLDER --identity-file FILE",
		Short: "Make a node of a backup",
		Long: `Make a node of a backup: all accounts, with the passwords, UIDs and dates that they had. It goes into the configured data folder,
which must be empty or missing, and whose daemon must not run; then start the daemon. Run it again when it was cut off: it begins anew.

With --account one account goes back into the data folder of a node that is stopped, under the number that it had. It must not be there
(mailraft account remove), and neither may another account have that number.

Messages can be read with the passwords that their owners had when the backup was made.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFolders,
	}
	configFlags(cmd)
	cmd.Flags().StringVar(&identity, "identity-file", "", "the `file` with the private key of the backup's recipient")
	cmd.Flags().StringVar(&account, "account", "", "just this account's `address`, into a node that exists")
	cmd.Flags().StringVar(&manifest, "manifest", "", "another `file` of the backup's manifests than the newest")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not show how far it is")
	jsonFlag(cmd, &asJSON, "an object: accounts")
	completeFlag(cmd, cobra.NoFileCompletions, "account")
	completeFlag(cmd, completeFiles, "identity-file", "manifest")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		cfg, err := config.Load(config.Sources{File: p.configFile, Flags: cmd.Flags()})
		if err != nil {
			return err
		}
		keys, err := identities(identity)
		if err != nil {
			return err
		}
		m, err := backup.ReadManifest(args[0], manifest, keys)
		if err != nil {
			return err
		}
		if m.Only != "" && account == "" {
			return usage("the newest run of this backup was of %s alone; name another one (--manifest), or restore that account: --account %s", m.Only, m.Only)
		}
		account, err := asWritten(account)
		if err != nil {
			return err
		}
		b, err := backup.Open(args[0], keys)
		if err != nil {
			return err
		}
		fill := daemon.FillNew
		if account != "" {
			fill = daemon.FillStopped
		}
		meter := p.meter(quiet, "restoring")
		n := 0
		problems := []string{}
		err = fill(ctx, cfg, slog.New(slog.DiscardHandler), func(s *raftstore.Store) (err error) {
			if n, err = b.Restore(ctx, s, m, account, meter); err != nil {
				return err
			}
			return fsck.Check(s, func(p fsck.Problem) { problems = append(problems, fmt.Sprint(p)) })
		})
		meter.Stop()
		switch {
		case errors.Is(err, fs.ErrExist), errors.Is(err, raftstore.ErrExists):
			return &failure{exit: exitExists, err: err}
		case errors.Is(err, raftstore.ErrLocked):
			return refused("%w", err)
		case err != nil:
			return err
		case len(problems) > 0:
			return fmt.Errorf("what was restored has problems: %s", strings.Join(problems, "; "))
		}
		return p.tell(asJSON, map[string]int{"accounts": n}, "restored %d accounts of %s into %s; start the node with: mailraft serve\n",
			n, m.Taken.Local().Format("2006-01-02 15:04:05"), cfg.Data)
	}
	return cmd
}
