package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/adminapi"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

func (p *program) cat() *cobra.Command {
	var sealed bool
	cmd := &cobra.Command{
		Use:   "cat PATH...",
		Short: "Write files of the mount to standard output, as messages or as they are stored",
		Long: `Write files of the mount to standard output. A path is below the mount, or relative to it.

Messages can be read while their account is unlocked. With --sealed the bytes are written as they are stored, for which no key is
needed: an age file, with a zstd stream in it ("age -d -i KEY | zstd -d" gives the message). Of an account that was made with
--public-key the age file has the message itself, and without --sealed it is written as an attachment.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeFiles,
	}
	cmd.Flags().BoolVar(&sealed, "sealed", false, "as stored: encrypted")
	cmd.RunE = p.asking(func(ctx context.Context, c *adminapi.Client, args []string) error {
		st, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		for _, arg := range args {
			name, err := belowMount(st.Mount, arg)
			if err != nil {
				return err
			}
			if sealed {
				err = p.catSealed(ctx, c, name)
			} else {
				err = p.catPlain(st.Mount, name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

// belowMount is the path relative to the mount.
func belowMount(mount, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(mount, abs); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return rel, nil
	}
	if filepath.IsAbs(path) {
		return "", usage("%s does not lie below the mount %s", path, mount)
	}
	return filepath.Clean(path), nil
}

func (p *program) catPlain(mount, name string) error {
	f, err := os.Open(filepath.Join(mount, name))
	if err == nil {
		defer f.Close()
		_, err = io.Copy(p.stdout, f)
	}
	switch {
	case errors.Is(err, syscall.ENOKEY):
		return refused("%s: the account is locked; unlock it with: mailraft unlock %s", name, accountOf(name))
	case errors.Is(err, syscall.EACCES) && os.Geteuid() == 0: // whom no permissions bind
		return refused("%s: the account is unlocked for other users; unlock it with: mailraft unlock %s --uid root", name, accountOf(name))
	}
	return err
}

// accountOf is the address that a path below the mount belongs to.
func accountOf(name string) string {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 {
		return "ADDRESS"
	}
	return fmt.Sprintf("%s@%s", parts[1], parts[0])
}

func (p *program) catSealed(ctx context.Context, c *adminapi.Client, name string) error {
	stream, err := c.ReadSealed(ctx, &adminpb.ReadSealedRequest{Path: name})
	if err != nil {
		return err
	}
	return each(stream, func(piece *adminpb.Piece) error {
		_, err := p.stdout.Write(piece.Data)
		return err
	})
}
