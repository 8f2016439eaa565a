package maildir

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ReadBeside reads a small file that lies beside the messages, such as the subscriptions. One that is not there is empty; so is one that is
// sealed to a key that the account had before and that was discarded: nobody can ever read it again.
func ReadBeside(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EKEYREJECTED) {
		return nil, nil
	}
	return text, err
}
