package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailraft/raftstore/durable"
)

// Folders, and a file, in the data folder.
const (
	storeFolder = "store"
	tlsFolder   = "tls"
	spillFolder = "staging"
	nodeFile    = "node"
)

// StoreFolder is where the store of a data folder is.
func StoreFolder(data string) string { return filepath.Join(data, storeFolder) }

// NodeName is the name of the node whose data folder it is: the one under which it votes. Errors: fs.ErrNotExist when no node was
// ever started with it.
func NodeName(data string) (string, error) {
	b, err := os.ReadFile(filepath.Join(data, nodeFile))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if name == "" {
		return "", fmt.Errorf("%s is empty", filepath.Join(data, nodeFile))
	}
	return name, nil
}

// claimed tells whether the folder is the node's own already: then its store has been made. An error when it is another node's, or
// nobody's data folder.
func claimed(data, node string) (bool, error) {
	name, err := NodeName(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, unused(data)
	case err != nil:
		return false, err
	case name != node:
		return false, fmt.Errorf("node: the data folder %s is that of the node %q, not of %q; a node keeps its name", data, name, node)
	}
	return true, nil
}

// claim makes the folder the node's own. It is called when the store has been made.
func claim(data, node string) error {
	return durable.WriteFile(filepath.Join(data, nodeFile), []byte(node+"\n"), 0o600)
}

// unused tells whether a folder that no node was started with may become a data folder: there is nothing in it but what a first
// start that was cut short has left, or a new file system's lost+found.
func unused(data string) error {
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case storeFolder, tlsFolder, spillFolder, "lost+found":
		default:
			if !strings.HasPrefix(e.Name(), nodeFile) {
				return fmt.Errorf("data: %s is no data folder, and is not empty (%s); name an empty folder", data, e.Name())
			}
		}
	}
	return nil
}
