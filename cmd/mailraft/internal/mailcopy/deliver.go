package mailcopy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"mailraft/proxy/maildir"
)

// target is a folder of the account that messages come into.
type target struct {
	c      *importer
	folder string
	dir    string
	there  map[string]bool // unique names of the messages in it
	seen   map[string]int  // how often a message of this content came from the source
}

// target makes the folder if it is not there, and looks what is in it.
func (c *importer) target(folder string) (*target, error) {
	if t := c.targets[folder]; t != nil {
		return t, nil
	}
	if err := maildir.CreateFolder(c.home, folder); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	t := &target{c: c, folder: folder, dir: maildir.FolderPath(c.home, folder), there: map[string]bool{}, seen: map[string]int{}}
	index, err := maildir.ReadIndex(t.dir)
	if err != nil {
		return nil, err
	}
	for _, m := range index.Messages {
		t.there[uniqueOf(m.Key())] = true
	}
	c.targets[folder] = t
	c.result.Folders++
	return t, nil
}

// maxUnique is the length of the longest part of a source's file name that is kept: its fields and flags come behind it.
const maxUnique = 160

// short is a unique name that fits.
func short(unique string) string {
	if len(unique) <= maxUnique {
		return unique
	}
	sum := sha256.Sum256([]byte(unique))
	return unique[:64] + ".H" + hex.EncodeToString(sum[:16])
}

// has says whether a message of that name is there already, and counts it.
func (t *target) has(unique string, octets uint64) bool {
	if unique == "" || !t.there[short(unique)] {
		return false
	}
	t.c.result.Already++
	t.c.meter.Skip(1, octets)
	return true
}

// put delivers a message. Without m.unique, its name is made of what is in it, and of how many of the same came before it: so the
// same source gives the same names.
func (t *target) put(m mark, letters string, r io.Reader, octets uint64) error {
	d, err := maildir.NewDelivery(t.c.home, t.folder)
	if err != nil {
		return err
	}
	defer d.Abort()
	sum := sha256.New()
	source := &sourceReader{r: r}
	if _, err := d.ReadFrom(io.TeeReader(maildir.CRLFReader(source), sum)); err != nil {
		if source.err != nil {
			return &sourceError{source.err}
		}
		return err
	}
	unique := short(m.unique)
	if unique == "" {
		content := hex.EncodeToString(sum.Sum(nil)[:16])
		unique = fmt.Sprintf("%d.X%s", m.date.Unix(), content)
		if n := t.seen[unique]; n > 0 {
			t.seen[unique]++
			unique = fmt.Sprintf("%sN%d", unique, n)
		} else {
			t.seen[unique] = 1
		}
		if t.has(unique, octets) {
			return nil
		}
	}
	_, err = d.Commit(maildir.Options{Flags: letters, Date: m.date, Recent: m.recent, Unique: unique, Enclosed: t.c.Enclosed})
	if errors.Is(err, syscall.EEXIST) {
		err = nil
	}
	if err != nil {
		return err
	}
	t.there[unique] = true
	t.c.result.Messages++
	t.c.result.Octets += uint64(d.Size())
	t.c.meter.Add(1, octets)
	return nil
}

// sourceReader keeps the error of the source apart from that of the mount.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// sourceError says that a message could not be read.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// alone says whether an error is of the one message that it came with: the next may do.
func alone(err error) bool {
	var source *sourceError
	return errors.As(err, &source) || errors.Is(err, syscall.EFBIG)
}

// letters answers the flag letters of a message with these keywords in the target, which gets those that it does not have.
func (t *target) letters(ctx context.Context, letters string, names []string) (string, error) {
	if len(names) == 0 {
		return letters, nil
	}
	k, err := t.keywords(ctx, names)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if c, added, ok := k.letter(name); ok && !added {
			letters += string(c)
		} else if !t.c.warned[t.folder+"/"+name] {
			t.c.warned[t.folder+"/"+name] = true
			t.c.warn("folder %s has 26 keywords, which is all that it can have: %s is left out", shown(t.folder), name)
		}
	}
	return letters, nil
}

// keywords are the target's, after those that it lacks were added.
func (t *target) keywords(ctx context.Context, names []string) (keywords, error) {
	if k, ok := t.c.keywords[t.folder]; ok && k.have(names) {
		return k, nil
	}
	var k keywords
	err := t.c.replace(ctx, t.dir+"/"+keywordsFile, func(old []byte) string {
		k = parseKeywords(old)
		for _, name := range names {
			k.letter(name)
		}
		return k.text()
	})
	if err == nil {
		t.c.keywords[t.folder] = k
	}
	return k, err
}

// have says whether nothing is to be added to them, or can be.
func (k keywords) have(names []string) bool {
	for _, name := range names {
		if _, added, _ := k.letter(name); added {
			return false
		}
	}
	return true
}

// lockStale is the age of a lock that a crash left behind (docs/format.md).
const lockStale = 30 * time.Second

// replace changes a small file under its lock, "NAME.lock", as the proxies do. It needs the account's key where the file is there.
func (c *importer) replace(ctx context.Context, path string, change func(old []byte) string) error {
	lock := path + ".lock"
	for {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			if st, err := os.Lstat(lock); err == nil && time.Since(st.ModTime()) > lockStale {
				return fmt.Errorf("%s: a crash has left this lock; remove it and run this again", lock)
			}
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		old, err := c.readKeyed(ctx, path)
		if err == nil {
			text := change(old)
			if text == string(old) {
				return errors.Join(f.Close(), os.Remove(lock))
			}
			_, err = f.WriteString(text)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(lock, path)
		}
		if err != nil {
			os.Remove(lock)
		}
		return err
	}
}

// readKeyed reads a file of the account, whose key is asked for when it is not there.
func (c *importer) readKeyed(ctx context.Context, path string) ([]byte, error) {
	b, err := maildir.ReadBeside(path)
	if isKept(err) && c.Unlock != nil {
		if err := c.Unlock(ctx); err != nil {
			return nil, err
		}
		return maildir.ReadBeside(path)
	}
	return b, err
}

// subscribe adds to the account's subscriptions.
func (c *importer) subscribe(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return c.replace(ctx, c.home+"/"+subscriptionsFile, func(old []byte) string {
		text := string(old)
		have := map[string]bool{}
		for _, line := range maildir.Subscribed(old) {
			have[line] = true
		}
		for _, line := range lines {
			if !have[line] {
				if text != "" && !strings.HasSuffix(text, "\n") {
					text += "\n"
				}
				have[line] = true
				text += line + "\n"
			}
		}
		return text
	})
}
