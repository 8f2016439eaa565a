package mailcopy

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"mailraft/proxy/maildir"
)

// source is one folder of mail that was found.
type source struct {
	path             string
	folder           string // of the Maildir++ that it goes into
	mbox             bool
	messages, octets uint64
}

// findSources finds the mail in a folder: a Maildir++ (".A.B"), maildirs below each other ("A/B", as mbsync and Dovecot's "fs" layout
// make them), mbox files ("A.mbox", "A.sbd/B").
func findSources(root string) ([]source, error) {
	var found []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && isMaildir(path):
			s := source{path: path, folder: folderOf(rel, false)}
			if s.messages, s.octets, err = count(path); err != nil {
				return err
			}
			found = append(found, s)
		case d.IsDir() && isMaildir(filepath.Dir(path)) && slices.Contains([]string{"cur", "new", "tmp"}, d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular() && !isMaildir(filepath.Dir(path)) && isMbox(path):
			info, err := d.Info()
			if err != nil {
				return err
			}
			found = append(found, source{path: path, folder: folderOf(strings.TrimSuffix(rel, ".mbox"), true), mbox: true, octets: uint64(info.Size())})
		}
		return nil
	})
	slices.SortFunc(found, func(a, b source) int { return strings.Compare(a.folder, b.folder) })
	return found, err
}

func isMaildir(dir string) bool {
	st, err := os.Stat(dir + "/cur")
	return err == nil && st.IsDir()
}

func isMbox(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = newMboxReader(f)
	st, serr := f.Stat()
	return err == nil && serr == nil && (st.Size() > 0 || strings.HasSuffix(path, ".mbox"))
}

func count(dir string) (messages, octets uint64, err error) {
	for _, box := range []string{"cur", "new"} {
		entries, err := os.ReadDir(dir + "/" + box)
		if err != nil && !os.IsNotExist(err) {
			return 0, 0, err
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && e.Name()[0] != '.' {
				messages, octets = messages+1, octets+uint64(info.Size())
			}
		}
	}
	return messages, octets, nil
}

// folderOf is the Maildir++ folder of a path below what is imported: "" for INBOX.
func folderOf(rel string, mbox bool) string {
	if rel == "." {
		return ""
	}
	var b strings.Builder
	for i, level := range strings.Split(rel, "/") {
		level = strings.TrimSuffix(level, ".sbd") // Thunderbird: the folders below a folder
		if i == 0 && strings.EqualFold(strings.TrimPrefix(level, "."), "INBOX") {
			continue
		}
		if strings.HasPrefix(level, ".") && len(level) > 1 {
			for _, l := range strings.Split(level[1:], ".") { // of a Maildir++
				if l != "" {
					b.WriteString("." + inUTF7(l))
				}
			}
			continue
		}
		if mbox && strings.HasSuffix(rel, level) && strings.Contains(level, ".") && isEncoded(level) {
			b.WriteString("." + level) // one of our mbox files: A.B.mbox
			continue
		}
		b.WriteString("." + inUTF7(level))
	}
	return b.String()
}

// isEncoded says whether a name has levels that are all modified UTF-7, as a Maildir++ has them.
func isEncoded(name string) bool {
	for _, level := range strings.Split(name, ".") {
		if _, ok := maildir.DecodeLevel(level); !ok || level == "" {
			return false
		}
	}
	return true
}

// inUTF7 is a level of a folder's name in modified UTF-7; what is that already stays.
func inUTF7(level string) string {
	if _, ok := maildir.DecodeLevel(level); ok {
		return level
	}
	return maildir.EncodeLevel(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(level, "_")))
}
