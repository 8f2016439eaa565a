package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/daemon"
	"mailraft/cmd/mailraft/internal/harden"
	"mailraft/cmd/mailraft/internal/passwords"
)

// The quickstart's domain and account.
const (
	quickDomain  = "localhost"
	quickAccount = "alice@localhost"
)

const quickHelp = `Run a node to try things with: everything lies in the folder DIR, all sockets are on the loopback, on ports that nobody else
uses. At the first start it writes DIR/mailraft.toml, which can be changed, and makes the account ` + quickAccount + ` with a password
that is printed then and kept nowhere. The flags and variables of "mailraft serve" work here as well.

SIGINT (Ctrl-C) stops it; started again, it has its mail.`

func (p *program) quickstart() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "quickstart DIR",
		Short:             "Run a node to try things with, in a folder of its own",
		Long:              quickHelp,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: once(completeFolders),
	}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := harden.Overwrite(); err != nil {
			return err
		}
		dir, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		p.configFile = filepath.Join(dir, "mailraft.toml")
		if err := writeQuickConfig(dir, p.configFile); err != nil {
			return err
		}
		cfg, err := config.Load(config.Sources{File: p.configFile, Flags: cmd.Flags()})
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // it belongs to its terminal
		defer stop()
		cmd.SetContext(ctx)
		return p.runDaemon(cmd, cfg, daemon.Signals{Ready: func() error { return p.welcome(ctx, cfg) }})
	}
	return cmd
}

// writeQuickConfig writes the configuration file, unless there is one.
func writeQuickConfig(dir, file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c := config.Default()
	c.Data, c.Mount, c.Run = filepath.Join(dir, "data"), filepath.Join(dir, "mail"), filepath.Join(dir, "run")
	c.Hostname = quickDomain
	c.ClusterListen = ""
	c.SMTPListen = []string{"127.0.0.1:2525"}
	c.SubmissionListen, c.SubmissionListenTLS = []string{"127.0.0.1:1587"}, []string{"127.0.0.1:1465"}
	c.LMTPListen = []string{"127.0.0.1:2424", "unix:lmtp.sock"}
	c.IMAPListen, c.IMAPListenTLS = []string{"127.0.0.1:1143"}, []string{"127.0.0.1:1993"}
	c.POP3Listen, c.POP3ListenTLS = []string{"127.0.0.1:1110"}, []string{"127.0.0.1:1995"}
	set := map[string]bool{
		"data": true, "mount": true, "run": true, "hostname": true, "cluster.listen": true, "smtp.listen": true, "lmtp.listen": true,
		"submission.listen": true, "submission.listen_tls": true,
		"imap.listen": true, "imap.listen_tls": true, "pop3.listen": true, "pop3.listen_tls": true,
	}
	return os.WriteFile(file, []byte(c.Document(func(key string) bool { return set[key] })), 0o644)
}

// welcome makes the account if it is not there, and prints what to do with it.
func (p *program) welcome(ctx context.Context, cfg *config.Config) error {
	c, err := adminapi.Dial(cfg.AdminSocket())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.AddDomain(ctx, &adminpb.DomainRequest{Name: quickDomain})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	password, err := p.firstAccount(ctx, c)
	if err != nil {
		return err
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return err
	}
	return p.instructions(s, password)
}

// firstAccount makes the account and returns its password; "" when it was there. The password is printed before the account is
// made, and no account is made when it cannot be: nothing that goes wrong then leaves one whose password nobody was told.
func (p *program) firstAccount(ctx context.Context, c *adminapi.Client) (string, error) {
	_, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: quickAccount})
	if err == nil {
		return "", p.introduce("with the password that was printed when it was made, at the first start")
	}
	if status.Code(err) != codes.NotFound {
		return "", err
	}
	password := string(passwords.Random())
	if err := p.introduce("its password, kept nowhere else: " + password); err != nil {
		return "", err
	}
	stream, err := c.AddAccounts(ctx)
	if err != nil {
		return "", err
	}
	if err := stream.Send(&adminpb.AddAccountRequest{Address: quickAccount, Password: []byte(password)}); err != nil {
		return "", err
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	reply, err := stream.Recv()
	if err != nil {
		return "", err
	}
	if reply.Error != "" {
		return "", fmt.Errorf("%s: %s", reply.Address, reply.Error)
	}
	_, err = c.AddAlias(ctx, &adminpb.Alias{Address: "postmaster@" + quickDomain, Targets: []string{quickAccount}}) // RFC 5321, 4.5.1
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return "", err
	}
	return password, nil
}

// introduce prints that the node runs, and whose it is.
func (p *program) introduce(password string) error {
	_, err := fmt.Fprintf(p.stdout, `
Mailraft is running. Stop it with Ctrl-C; started again, it has its mail.

  account  %s
           %s
`, quickAccount, password)
	return err
}

// instructions prints the commands to try.
func (p *program) instructions(s *adminpb.StatusReply, password string) error {
	at := map[string]string{}
	for _, l := range s.Listeners {
		if at[l.Protocol] == "" {
			at[l.Protocol] = l.Address
		}
	}
	if password == "" {
		password = "PASSWORD"
	}
	mailbox := filepath.Join(shortPath(s.Mount), quickDomain, "alice")
	user := fmt.Sprintf("-u '%s:%s'", quickAccount, password)
	_, err := fmt.Fprintf(p.stdout, `
Send it a message, from another terminal (of Debian: apt-get install curl swaks netcat-openbsd; curl alone will do):
  printf 'From: bob@example.org\r\nSubject: Hello\r\n\r\nA first message.\r\n' |
    curl -sS smtp://%[2]s --mail-from bob@example.org --mail-rcpt %[1]s -T -
  swaks --server %[2]s --to %[1]s --body 'or so'
  printf 'LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<%[1]s>\r\nDATA\r\n\r\nor so, by LMTP\r\n.\r\nQUIT\r\n' | nc -N %[3]s

It lies under the mount, and nobody can read it:
  ls -l %[7]s/new
  cat %[7]s/new/*

Unlock the account, then its owner's programs can (and root's, on this machine):
  %[8]s -c %[9]s unlock %[1]s
  cat %[7]s/new/*
  %[8]s -c %[9]s lock %[1]s

Read it by IMAP and by POP3, where logging in unlocks it:
  curl -sSk %[6]s 'imaps://%[4]s/INBOX;MAILINDEX=1'
  curl -sSk %[6]s 'pop3s://%[5]s/1'

Write as its owner, logged in, to any account of this node:
  printf 'From: %[1]s\r\nSubject: A note\r\n\r\nTo myself.\r\n' |
    curl -sSk %[6]s smtps://%[10]s --mail-from %[1]s --mail-rcpt %[1]s -T -

How it is:
  %[8]s -c %[9]s status

`, quickAccount, at["smtp"], spaced(at["lmtp"]), at["imaps"], at["pop3s"], user, mailbox, shortPath(os.Args[0]), shortPath(p.configFile),
		at["submissions"])
	return err
}

// shortPath is the path from here, if it is below.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// spaced is host:port as nc takes it.
func spaced(address string) string {
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == ':' {
			return address[:i] + " " + address[i+1:]
		}
	}
	return address
}
