package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
)

const addHelp = `Add accounts. Their domains must be there ("mailraft domain add").

The password is asked for, or read from standard input (--password-stdin, a line for each address), or made up and printed once
(--random). It is the only way to the account's mail: nobody can read it, or make a new password for it, without the old one.

With --public-key the account's messages are sealed to that key of age's, and the server never has the private one, so it can't open
them: not for a search, not for a thief, not by a court's order. Each is read as a small message with the sealed one attached (message.age),
which "age -d -i KEY" opens. The password logs in, and is needed for no more than that.

--from takes many at once from a CSV file (RFC 4180), a line each:

  address[,password[,quota]]

with a random password, printed once, where there is none; a quota such as 500M or none; "#" begins a comment line. "-" is
standard input. Accounts that cannot be added do not keep the others from it; the exit code is then 1.`

// keyKinds are the kinds of key pairs that an account can have.
var keyKinds = oneOf("hybrid", "x25519")

// addition is what account add was told.
type addition struct {
	from, key, quota  string
	publicKey         string
	files             uint64
	random, fromStdin bool
	json              bool
}

func (p *program) accountAdd() *cobra.Command {
	var o addition
	cmd := &cobra.Command{
		Use:               "add {ADDRESS... | --from FILE}",
		Short:             "Add accounts",
		Long:              addHelp,
		ValidArgsFunction: p.complete(newAddresses),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case (len(args) > 0) == (o.from != ""):
				return errors.New("give addresses, or --from a file")
			case o.publicKey == "":
				return nil
			case o.from != "":
				return errors.New("--public-key is for accounts that are named, not for those of --from")
			case cmd.Flags().Changed("key"):
				return errors.New("--key is the kind of a key pair that is made: not together with --public-key")
			case isPrivateKey(o.publicKey):
				return errors.New("--public-key was given a private key, which nobody else may see: give the public one, as age-keygen -y prints it")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "add the accounts in a CSV `file`: address[,password[,quota]]")
	flags.StringVar(&o.key, "key", "hybrid", "kind of key pair: hybrid (post-quantum) or x25519 (opens with every age)")
	flags.StringVar(&o.publicKey, "public-key", "", "seal messages to this public `key` of the owner's, as age1...: the server can't open them")
	flags.StringVar(&o.quota, "quota", "none", "how much may be stored, such as 1G")
	flags.Uint64Var(&o.files, "quota-files", 0, "how many files may be stored; 0: any number")
	flags.BoolVar(&o.random, "random", false, "make up a password and print it, once")
	flags.BoolVar(&o.fromStdin, "password-stdin", false, "read passwords from standard input, a line each")
	completeFlag(cmd, completeFiles, "from")
	completeFlag(cmd, keyKinds, "key")
	completeFlag(cmd, cobra.NoFileCompletions, "public-key")
	jsonFlag(cmd, &o.json, "an object a line: address, password if it was made up, error if there was one")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		accounts, err := p.newAccounts(ctx, &o, args)
		if err == nil {
			err = eachOnce(accounts)
		}
		if err != nil {
			return err
		}
		return p.add(ctx, c, accounts, o.json)
	})
	return cmd
}

// isPrivateKey tells whether it is a private key of age's, or of its plugins'.
func isPrivateKey(key string) bool {
	key = strings.ToUpper(strings.TrimSpace(key))
	return strings.HasPrefix(key, "AGE-SECRET-KEY-") || strings.HasPrefix(key, "AGE-PLUGIN-") || strings.Contains(key, "PRIVATE KEY")
}

// newAccount is an account to be added.
type newAccount struct {
	*adminpb.AddAccountRequest
	random string // the password if it was made up, to be shown
}

func (o *addition) account(address, password, quota string) (newAccount, error) {
	a := newAccount{AddAccountRequest: &adminpb.AddAccountRequest{Address: strings.TrimSpace(address), Key: o.key, QuotaFiles: o.files, PublicKey: o.publicKey}}
	var err error
	if a.QuotaBytes, err = parseLimit(quota); err != nil {
		return a, err
	}
	if password == "" {
		a.random = string(passwords.Random())
		password = a.random
	}
	a.Password = []byte(password)
	return a, nil
}

func (p *program) newAccounts(ctx context.Context, o *addition, addresses []string) ([]newAccount, error) {
	if o.from != "" {
		return p.accountsFrom(o)
	}
	var secrets [][]byte
	if o.fromStdin {
		var err error
		if secrets, err = p.lines(len(addresses)); err != nil {
			return nil, err
		}
	}
	var accounts []newAccount
	for i, address := range addresses {
		password := ""
		switch {
		case o.fromStdin:
			password = string(secrets[i])
		case !o.random:
			b, err := p.askNewSecret(ctx, address)
			if err != nil {
				return nil, err
			}
			password = string(b)
		}
		a, err := o.account(address, password, o.quota)
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, a)
	}
	return accounts, nil
}

// eachOnce refuses an address that is given twice: which of its passwords would hold?
func eachOnce(accounts []newAccount) error {
	seen := make(map[string]bool, len(accounts))
	for _, a := range accounts {
		key := strings.ToLower(a.Address)
		if seen[key] {
			return usage("%s is given more than once; nothing was added", a.Address)
		}
		seen[key] = true
	}
	return nil
}

// accountsFrom reads the CSV file. Errors name the line.
func (p *program) accountsFrom(o *addition) ([]newAccount, error) {
	in, name := p.stdin, "standard input"
	if o.from != "-" {
		f, err := os.Open(o.from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, o.from
	}
	r := csv.NewReader(in)
	r.Comment = '#'
	r.FieldsPerRecord = -1
	var accounts []newAccount
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return accounts, nil
		}
		if err != nil {
			return nil, usage("%s: %w", name, err)
		}
		line, _ := r.FieldPos(0)
		if len(record) > 3 {
			return nil, usage("%s, line %d: %d fields, 1 to 3 are known: address[,password[,quota]] (a password with a comma goes in quotes)", name, line, len(record))
		}
		password, quota := "", o.quota
		if len(record) > 1 {
			password = record[1]
		}
		if len(record) > 2 && record[2] != "" {
			quota = record[2]
		}
		a, err := o.account(record[0], password, quota)
		if err != nil {
			return nil, usage("%s, line %d: %w", name, line, err)
		}
		accounts = append(accounts, a)
	}
}

// addedLine is an answer in JSON.
type addedLine struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"`
	Error    string `json:"error,omitempty"`
}

// add has the daemon add the accounts, and tells of each when it is there. The error is that of the first that is not.
func (p *program) add(ctx context.Context, c *adminapi.Client, accounts []newAccount, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.AddAccounts(ctx)
	if err != nil {
		return err
	}
	go func() {
		for _, a := range accounts {
			if stream.Send(a.AddAccountRequest) != nil {
				return // Recv says why
			}
		}
		stream.CloseSend()
	}()
	random := map[string]string{}
	for _, a := range accounts {
		random[a.Address] = a.random
	}
	failed, failure := 0, error(nil)
	for range accounts {
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if reply.Error != "" {
			failed++
			failure = status.Error(codes.Code(reply.Code), reply.Error)
		}
		if err := p.added(reply, random[reply.Address], asJSON, len(accounts) > 1); err != nil {
			return err
		}
	}
	switch {
	case failed == 0:
		return nil
	case len(accounts) == 1:
		return failure
	}
	return fmt.Errorf("%d of %d accounts were not added", failed, len(accounts))
}

// added tells of one account. The only one's error is left to the caller.
func (p *program) added(reply *adminpb.AddAccountReply, random string, asJSON, many bool) error {
	if reply.Error != "" {
		random = ""
	}
	var err error
	switch {
	case asJSON:
		err = p.jsonLine(addedLine{Address: reply.Address, Password: random, Error: reply.Error})
	case reply.Error != "":
		if many {
			_, err = fmt.Fprintf(p.stderr, "mailraft: %s: %s\n", reply.Address, reply.Error)
		}
	case random != "":
		_, err = fmt.Fprintf(p.stdout, "added account %s with password %s\n", reply.Address, random)
	default:
		_, err = fmt.Fprintf(p.stdout, "added account %s\n", reply.Address)
	}
	return err
}
