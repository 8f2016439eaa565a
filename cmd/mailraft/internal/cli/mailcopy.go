package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/mailcopy"
	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/proxy/maildir"
)

// copying is what export and import share.
type copying struct {
	*program
	client *adminapi.Client
	folder string
	quiet  bool
	json   bool
	// fromStdin says that the password comes from standard input; password is it.
	fromStdin bool
	password  []byte
	address   string
	pinned    bool
}

func (c *copying) flags(cmd *cobra.Command, folder string) {
	cmd.Flags().StringVar(&c.folder, "folder", "", folder)
	cmd.Flags().BoolVar(&c.fromStdin, "password-stdin", false, "read the account's password from a line of standard input")
	cmd.Flags().BoolVar(&c.quiet, "quiet", false, "do not show how far it is")
	completeFlag(cmd, cobra.NoFileCompletions, "folder")
	jsonFlag(cmd, &c.json, "an object: folders, messages, octets, already, left_out")
}

// begin finds the account's home on the mount, and its address as it is written here; unlocked says whether this process may read it.
func (c *copying) begin(ctx context.Context, client *adminapi.Client, address string) (home string, unlocked bool, err error) {
	c.client = client
	if c.fromStdin {
		lines, err := c.lines(1)
		if err != nil {
			return "", false, err
		}
		c.password = lines[0]
	}
	st, err := client.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return "", false, err
	}
	a, err := client.GetAccount(ctx, &adminpb.AccountRequest{Address: address})
	if err != nil {
		return "", false, err
	}
	c.address, c.pinned = a.Address, a.Pinned
	i := strings.LastIndexByte(a.Address, '@')
	unlocked = slices.ContainsFunc(st.Unlocked, func(u *adminpb.Unlocked) bool {
		return u.Address == a.Address && (!u.Bound || slices.Contains(u.Uids, uint32(os.Geteuid())))
	})
	return filepath.Join(st.Mount, a.Address[i+1:], a.Address[:i]), unlocked, nil
}

// unlock keeps the account unlocked for this process, and others of its user, until ctx is done.
func (c *copying) unlock(ctx context.Context) (err error) {
	if c.password == nil {
		if c.terminal() == nil {
			return refused("%s is locked; unlock it (mailraft unlock %s), or give its password: --password-stdin", c.address, c.address)
		}
		if c.password, err = c.askSecret(ctx, "Password of "+c.address+": "); err != nil {
			return err
		}
	}
	defer func() { clear(c.password); c.password = nil }()
	stream, err := c.client.HoldUnlocked(ctx, &adminpb.UnlockRequest{Address: c.address, Password: c.password, Uids: []uint32{uint32(os.Geteuid())}})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// warner writes what was left out, and why.
func (c *copying) warner(m *progress.Meter) func(string, ...any) {
	if m != nil {
		return m.Note
	}
	return func(format string, args ...any) { fmt.Fprintf(c.stderr, format+"\n", args...) }
}

// end tells what was copied, and gives the error its way to end the program.
func (c *copying) end(done, where string, r mailcopy.Result, err error) error {
	if err == nil || c.json {
		if err := c.report(done, where, r); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, mailcopy.ErrThere):
		return &failure{exit: exitExists, err: err}
	case errors.Is(err, mailcopy.ErrLocked):
		return refused("%s is locked; unlock it (mailraft unlock %s), or give its password: --password-stdin", c.address, c.address)
	case errors.Is(err, mailcopy.ErrNoMail), errors.Is(err, maildir.ErrFolderName):
		return &failure{exit: exitUsage, err: err}
	case err != nil:
		if r.Messages > 0 && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("after %d messages: %w", r.Messages, err)
		}
		return err
	case r.LeftOut > 0:
		return fmt.Errorf("%d messages were left out; they are named above", r.LeftOut)
	}
	return nil
}

func (c *copying) report(done, where string, r mailcopy.Result) error {
	words := fmt.Sprintf("%s %d messages of %d folders, %s, %s", done, r.Messages, r.Folders, progress.Octets(r.Octets), where)
	if r.Already > 0 {
		words += fmt.Sprintf("; %d were there already", r.Already)
	}
	return c.tell(c.json, r, "%s\n", words)
}

// completeAccountAndFile completes an account's address, and then a file.
func (p *program) completeAccountAndFile(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.complete(accounts)(cmd, args, typed)
	}
	return completeFiles(cmd, args, typed)
}

func (p *program) export() *cobra.Command {
	c := &copying{program: p}
	var mbox bool
	var owner string
	cmd := &cobra.Command{
		Use:   "export ADDRESS FOLDER|FILE.mbox",
		Short: "Write an account's mail to a plain maildir or to mbox files",
		Long: `Write an account's mail, opened, with folders, flags and dates: to a Maildir++ as Dovecot and Courier know it; with --mbox to a folder
with an mbox file for each of the account's; or one of its folders (INBOX, or --folder) to FILE.mbox.

The account has to be unlocked, or its password to be given. What is written can be read by whoever may read the files: they are made for
their owner alone, who is root or --owner. The place must not be there, or be an empty folder. Until all is written it has ".part"
behind its name; run the command again after it was cut off, and it goes on there. A maildir has messages as they are stored, with CRLF.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.completeAccountAndFile,
	}
	c.flags(cmd, "just this `folder`, as \"Work/2024\"")
	cmd.Flags().BoolVar(&mbox, "mbox", false, "mbox files in a folder, instead of a maildir")
	cmd.Flags().StringVar(&owner, "owner", "", "the `user` whom the files are given to")
	completeFlag(cmd, cobra.NoFileCompletions, "owner")
	cmd.RunE = p.asking(func(ctx context.Context, client *adminapi.Client, args []string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		e := mailcopy.Export{To: args[1], Format: mailcopy.Maildir}
		switch {
		case strings.HasSuffix(args[1], ".mbox") && !mbox:
			e.Format = mailcopy.MboxOneFile
		case mbox:
			e.Format = mailcopy.MboxFolder
		}
		if c.folder != "" {
			f, err := mailcopy.FolderNamed(c.folder)
			if err != nil {
				return usage("--folder: %w", err)
			}
			e.Folder = &f
		}
		if owner != "" {
			ids, err := lookUpUser(owner)
			if err != nil {
				return usage("--owner: %w", err)
			}
			e.Owner = ids
		}
		home, unlocked, err := c.begin(ctx, client, args[0])
		if err != nil {
			return err
		}
		if !unlocked || c.password != nil {
			if err := c.unlock(ctx); err != nil {
				return err
			}
		}
		e.Address, e.Home = c.address, home
		e.Meter = p.meter(c.quiet, "exporting "+c.address)
		e.Warn = c.warner(e.Meter)
		r, err := e.Run(ctx)
		e.Meter.Stop()
		return c.end("exported", "to "+args[1], r, err)
	})
	return cmd
}

func lookUpUser(name string) (*[2]int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("there is no user %s", name)
		}
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	return &[2]int{uid, gid}, errors.Join(uerr, gerr)
}

func (p *program) importMail() *cobra.Command {
	c := &copying{program: p}
	cmd := &cobra.Command{
		Use:   "import ADDRESS FOLDER|FILE",
		Short: "Bring mail from a plain maildir or from mbox files into an account",
		Long: `Bring mail into an account, with folders, flags and dates: from a maildir and the folders in it (Maildir++, or maildirs below each
other), from an mbox file (into INBOX, or --folder), or from a folder of mbox files. What it was brought from stays as it is.

It may be run again, after it was cut off or when more has come: a message that was imported is known by its name in the folder, and does
not come twice (unless it was moved or removed since). Line ends become CRLF. The account need not be unlocked, except to add
keywords or subscriptions to those that it has.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.completeAccountAndFile,
	}
	c.flags(cmd, "the `folder` that an mbox goes into, and the folders of others go below")
	cmd.RunE = p.asking(func(ctx context.Context, client *adminapi.Client, args []string) (err error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		i := mailcopy.Import{From: args[1], Unlock: c.unlock}
		if c.folder != "" {
			if i.Folder, err = mailcopy.FolderNamed(c.folder); err != nil {
				return usage("--folder: %w", err)
			}
		}
		if i.Home, _, err = c.begin(ctx, client, args[0]); err != nil {
			return err
		}
		i.Enclosed = c.pinned
		i.Meter = p.meter(c.quiet, "importing into "+c.address)
		i.Warn = c.warner(i.Meter)
		r, err := i.Run(ctx)
		i.Meter.Stop()
		return c.end("imported", "from "+args[1], r, err)
	})
	return cmd
}
