package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/boombuler/barcode/qr"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/recoverycode"
)

func (p *program) recovery() *cobra.Command {
	cmd := &cobra.Command{Use: "recovery", Short: "Codes that open an account whose password is lost"}
	cmd.AddCommand(p.recoveryNew())
	return cmd
}

func (p *program) recoveryNew() *cobra.Command {
	var fromStdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "new ADDRESS",
		Short: "Make an account's recovery code",
		Long: `Make an account's recovery code, and print it, once: on a terminal as a QR code too. It is for the owner to keep on paper. When
the password is lost, mailraft account recover sets a new one with it, and the mail stays readable. Whoever has the code can do so.

The code that was made before is no longer good. The password is needed: it is what opens the account's private key.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	jsonFlag(cmd, &asJSON, "an object with the address and the code")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		req := &adminpb.NewRecoveryRequest{Address: a.Address}
		if req.Password, err = p.secret(ctx, "Password of "+a.Address+": ", fromStdin); err != nil {
			return err
		}
		defer clear(req.Password)
		reply, err := c.NewRecovery(ctx, req)
		if status.Code(err) == codes.Unauthenticated {
			return refused("the password of %s is wrong; nothing was changed", a.Address)
		}
		if err != nil {
			return err
		}
		return p.showRecovery(asJSON, a.Address, reply.Code)
	})
	return cmd
}

func (p *program) accountRecover() *cobra.Command {
	var fromStdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "recover ADDRESS",
		Short: "Set an account's password by its recovery code",
		Long: `Set an account's password by its recovery code (mailraft recovery new), without the old password. All mail stays readable. Whatever
opened the account before does so no more, and who is logged in is logged out.

The code is used up: the next one is printed.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(accounts, nil),
	}
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the recovery code and the new password from standard input, a line each")
	jsonFlag(cmd, &asJSON, "an object with the address and the next code")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		a, err := c.GetAccount(ctx, &adminpb.AccountRequest{Address: args[0]})
		if err != nil {
			return err
		}
		req := &adminpb.RecoverRequest{Address: a.Address}
		if req.Code, req.New, err = p.codeAndNew(ctx, a.Address, fromStdin); err != nil {
			return err
		}
		defer clear(req.Code)
		defer clear(req.New)
		reply, err := c.Recover(ctx, req)
		if status.Code(err) == codes.Unauthenticated {
			return refused("that is not the recovery code of %s: another one was made since, or it is another account's; nothing was changed", a.Address)
		}
		if err != nil {
			return err
		}
		if !asJSON {
			fmt.Fprintf(p.stdout, "changed the password of %s\n", a.Address)
		}
		return p.showRecovery(asJSON, a.Address, reply.Code)
	})
	return cmd
}

// codeAndNew reads a recovery code, as its secret, and a new password.
func (p *program) codeAndNew(ctx context.Context, address string, fromStdin bool) (secret, new []byte, err error) {
	var code []byte
	if fromStdin {
		lines, err := p.lines(2)
		if err != nil {
			return nil, nil, err
		}
		code, new = lines[0], lines[1]
	} else if code, err = p.askSecret(ctx, "Recovery code of "+address+": "); err != nil {
		return nil, nil, err
	}
	defer clear(code)
	if secret, err = recoverycode.Parse(code); err != nil {
		return nil, nil, refused("%w; nothing was changed", err)
	}
	if !fromStdin {
		new, err = p.askNewSecret(ctx, address)
	}
	return secret, new, err
}

// showRecovery prints a code. It is the only time that anybody sees it.
func (p *program) showRecovery(asJSON bool, address string, secret []byte) error {
	code := formatRecovery(secret)
	if asJSON {
		return p.jsonLine(struct {
			Address string `json:"address"`
			Code    string `json:"recovery_code"`
		}{address, code})
	}
	if _, err := fmt.Fprintf(p.stdout, "recovery code of %s, which is not shown again:\n\n  %s\n\n", address, code); err != nil {
		return err
	}
	if f, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return writeQR(p.stdout, code)
	}
	return nil
}

// formatRecovery is a code as it is printed, "" if there is none; it wipes the secret.
func formatRecovery(secret []byte) string {
	defer clear(secret)
	if len(secret) == 0 {
		return ""
	}
	return string(recoverycode.Format(secret))
}

// quiet is how wide the light frame of a QR code is, in modules (ISO/IEC 18004, 6.3.8).
const quiet = 4

// writeQR draws a QR code on a terminal, whatever its colours are: two modules a character, one above the other.
func writeQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M, qr.AlphaNumeric)
	if err != nil {
		return err
	}
	size := code.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return true
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r != 0
	}
	for y := -quiet; y < size+quiet; y += 2 {
		line := "\x1b[97;40m"
		for x := -quiet; x < size+quiet; x++ {
			switch above, below := light(x, y), light(x, y+1); {
			case above && below:
				line += "\u2588"
			case above:
				line += "\u2580"
			case below:
				line += "\u2584"
			default:
				line += " "
			}
		}
		if _, err := io.WriteString(w, line+"\x1b[0m\n"); err != nil {
			return err
		}
	}
	return nil
}
