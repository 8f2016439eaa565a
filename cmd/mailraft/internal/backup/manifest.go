package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"mailraft/raftstore/durable"
)

// Manifest is what one run has found: written last, so that a run which was cut off leaves none.
type Manifest struct {
	Version  int       `json:"version"`
	Taken    time.Time `json:"taken"`
	Only     string    `json:"only,omitempty"` // the one account that was asked for; "": the whole cluster
	Domains  []string  `json:"domains"`
	Aliases  []Alias   `json:"aliases"`
	Accounts []Account `json:"accounts"`
}

// Alias is an address that stands for others.
type Alias struct {
	Address string   `json:"address"`
	Targets []string `json:"targets"`
}

// Account says where an account's records are.
type Account struct {
	Address string `json:"address"`
	Number  uint32 `json:"number"`
	Created int64  `json:"created"` // nanoseconds since the epoch
	File    string `json:"file"`    // in accounts/
	SHA256  string `json:"sha256"`  // of the file
}

const (
	manifestsDir  = "manifests"
	accountsDir   = "accounts"
	recipientFile = "RECIPIENTS"
	version       = 1
)

// ErrNoRecipient: nobody is named whom the backup could be encrypted to.
var ErrNoRecipient = errors.New("no recipient")

// recipients are those that a folder is encrypted to: the given ones, which are noted at the first run, or those that were noted.
func recipients(root string, given []string) ([]age.Recipient, error) {
	path := filepath.Join(root, recipientFile)
	if len(given) == 0 {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrNoRecipient
		}
		if err != nil {
			return nil, err
		}
		given = strings.Fields(string(text))
	} else if err := durable.WriteFile(path, []byte(strings.Join(given, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	list, err := age.ParseRecipients(strings.NewReader(strings.Join(given, "\n")))
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	return list, nil
}

// encryptTo writes a file that only the recipients can read; its name is known when it was written. One that is there already stays.
// sum is of its octets.
func encryptTo(dir string, to []age.Recipient, write func(io.Writer) error, name func() string) (sum string, err error) {
	if err := durable.MkdirAll(dir); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(f, h), 256<<10)
	w, err := age.Encrypt(b, to...)
	if err != nil {
		return "", err
	}
	if err := errors.Join(write(w), w.Close(), b.Flush()); err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name())
	if was, err := os.Open(path); err == nil { // an earlier manifest refers to it as it is
		defer was.Close()
		h.Reset()
		_, err := io.Copy(h, was)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	return hex.EncodeToString(h.Sum(nil)), durable.Rename(f.Name(), path)
}

func (m *Manifest) write(root string, to []age.Recipient) error {
	_, err := encryptTo(filepath.Join(root, manifestsDir), to, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) },
		func() string { return m.Taken.UTC().Format("20060102T150405.000Z") + ".age" })
	return err
}

// names are the manifests' files, the newest last.
func names(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, manifestsDir))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".age") {
			list = append(list, e.Name())
		}
	}
	slices.Sort(list)
	return list, nil
}

// ReadManifest reads the newest manifest, or the one of that name.
func ReadManifest(root, name string, keys []age.Identity) (*Manifest, error) {
	if name == "" {
		list, err := names(root)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("%s has no manifest: it is no backup, or its first run was cut off: %w", root, os.ErrNotExist)
		}
		name = list[len(list)-1]
	}
	path := filepath.Join(root, manifestsDir, filepath.Base(name))
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := age.Decrypt(f, keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	if m.Version != version {
		return nil, fmt.Errorf("%s is of version %d, this program knows %d", path, m.Version, version)
	}
	return m, nil
}
