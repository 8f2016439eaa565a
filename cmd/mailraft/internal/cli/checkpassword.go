package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/dovecotauth"
)

// The exit codes of the interface, which are not those of the other commands.
var (
	checkRefused   = exit{1, "wrong user or password"}
	checkMisused   = exit{2, "misused"}
	checkNoUser    = exit{3, "no such user, of a look-up"}
	checkTemporary = exit{111, "it cannot be told now"}
)

const checkPasswordHelp = `Check a password for another mail server, by the interface of checkpassword with Dovecot's extensions.

Descriptor 3 has the user's address, a NUL, the password, a NUL, and more that is not looked at: 512 octets at most. The running daemon is
asked at a socket of its option auth.listen. If the password is right, the account is unlocked while its files are in use, and PROGRAM is
run in place of this one, with USER, HOME (the account's Maildir++ on the mount), userdb_uid and userdb_gid in its environment.

It takes passwords alone, that is, the mechanisms PLAIN and LOGIN: no hash of one is stored that it could hand out for others. With
AUTHORIZED=1 it looks the user up, without a password and without unlocking, and says AUTHORIZED=2.

Exit codes: 1 wrong user or password; 2 misused; 3 no such user, of a look-up; 111 it cannot be told now. See docs/dovecot.md.`

func (p *program) checkPassword() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "checkpassword PROGRAM [ARGUMENT...]",
		Short: "Check a password for another mail server, such as Dovecot",
		Long:  checkPasswordHelp,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := p.check(cmd.Context(), socket, args)
			var f *failure
			if err != nil && !errors.As(err, &f) {
				err = &failure{exit: checkTemporary, err: err}
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false) // the program's own flags are not this one's
	cmd.Flags().StringVar(&socket, "auth-socket", "", "the daemon's `socket` for logins (default: the first of auth.listen)")
	return cmd
}

// checkTime is how long a check may take. Who waits for it has given up by then.
const checkTime = 2 * time.Minute

// checkDescriptor is where the user and the password are read.
const checkDescriptor = 3

// check answers by running the program, or returns why not.
func (p *program) check(ctx context.Context, socket string, program []string) error {
	path, err := exec.LookPath(program[0])
	if err != nil {
		return misused("%w", err)
	}
	given, err := readCheck(os.NewFile(checkDescriptor, "descriptor 3"))
	defer clear(given)
	if err != nil {
		return err
	}
	if socket == "" {
		if socket, err = p.authSocket(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	lookUp := os.Getenv("AUTHORIZED") == "1"
	if lookUp && os.Getenv("CREDENTIALS_LOOKUP") != "" {
		return misused("no password is stored that could be handed out for the mechanism %s: offer PLAIN and LOGIN alone", os.Getenv("SCHEME"))
	}
	u, err := ask(ctx, socket, given, lookUp)
	switch {
	case errors.Is(err, dovecotauth.ErrRefused):
		return &failure{checkRefused, err, true}
	case errors.Is(err, dovecotauth.ErrNoSuchUser):
		return &failure{checkNoUser, err, true}
	case err != nil:
		return err
	}
	return unix.Exec(path, program, checkedEnv(os.Environ(), u))
}

func misused(format string, args ...any) error {
	return &failure{exit: checkMisused, err: fmt.Errorf(format, args...)}
}

// maxCheck is how much the descriptor may have, in octets.
const maxCheck = 512

// readCheck reads all that is there and closes it. What it returns is the caller's to wipe.
func readCheck(from *os.File) ([]byte, error) {
	if from == nil {
		return nil, misused("descriptor 3 is not open: another program is to run this one")
	}
	defer from.Close()
	given := make([]byte, maxCheck+1)
	n, err := io.ReadFull(from, given)
	switch {
	case err == nil:
		return given, misused("descriptor 3 has more than %d octets", maxCheck)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return given, misused("descriptor 3: %w", err)
	case bytes.Count(given[:n], []byte{0}) < 2:
		return given, misused("descriptor 3 has no user and password, each with a NUL behind it")
	}
	return given[:n], nil
}

// authSocket is where the daemon should be.
func (p *program) authSocket() (string, error) {
	cfg, err := config.Load(config.Sources{File: p.configFile})
	if err != nil {
		return "", err
	}
	for _, l := range cfg.Listeners() {
		if l.Protocol == config.Auth {
			_, path, err := l.Network()
			return path, err
		}
	}
	return "", errors.New("no socket is configured for logins: set auth.listen")
}

// ask asks the daemon about what was given.
func ask(ctx context.Context, socket string, given []byte, lookUp bool) (dovecotauth.User, error) {
	c, err := dovecotauth.Dial(ctx, socket)
	if err != nil {
		return dovecotauth.User{}, err
	}
	defer c.Close()
	user, rest, _ := bytes.Cut(given, []byte{0})
	password, _, _ := bytes.Cut(rest, []byte{0})
	service := os.Getenv("SERVICE")
	if service == "" {
		service = "checkpassword"
	}
	params := []string{"service=" + service}
	if lookUp {
		return c.LookUp(string(user), params...)
	}
	if ip := os.Getenv("TCPREMOTEIP"); ip != "" {
		params = append(params, "rip="+ip)
	}
	if os.Getenv("AUTH_SECURED") != "" {
		params = append(params, "secured")
	}
	return c.LogIn(string(user), password, params...)
}

// checkedEnv is the environment with what was answered.
func checkedEnv(env []string, u dovecotauth.User) []string {
	set := map[string]string{"USER": u.Name, "HOME": u.Home, "userdb_uid": u.UID, "userdb_gid": u.GID, "EXTRA": "userdb_uid userdb_gid"}
	out := make([]string, 0, len(env)+len(set))
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		switch _, ours := set[key]; {
		case key == "EXTRA" && value != "":
			set[key] += " " + value
		case key == "AUTHORIZED" && value == "1":
			out = append(out, "AUTHORIZED=2")
		case !ours:
			out = append(out, e)
		}
	}
	for key, value := range set {
		out = append(out, key+"="+value)
	}
	return out
}
