package mailcopy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/proxy/maildir"
)

// Import says what comes from where.
type Import struct {
	Home     string // the account's Maildir++ on the mount
	From     string // a maildir, with its folders; an mbox; a folder of them
	Enclosed bool   // the account's messages are read as others than are written (proxy.Mailbox)
	Folder   string // the account's folder that an mbox goes into, and that all others go below; "": INBOX
	// Unlock makes the account's key available, or fails. It is called when a file must be read to be changed: its keywords, its
	// subscriptions.
	Unlock func(context.Context) error
	Meter  *progress.Meter
	Warn   func(format string, args ...any)
}

// importer is an import that runs.
type importer struct {
	copier
	Import
	targets  map[string]*target
	keywords map[string]keywords // by folder, as they were written last
	warned   map[string]bool
	head     *bufio.Reader
}

// ErrNoMail says that nothing was found that looks like mail.
var ErrNoMail = errors.New("neither a maildir nor an mbox")

// Run imports. A message whose unique name is in its folder already is not imported again, so a run that was cut off, or refused for
// the quota, is run again and goes on. Line ends become CRLF (docs/decisions/0002). Errors: ErrNoMail, ErrLocked, the mount's, ctx's.
func (i Import) Run(ctx context.Context) (Result, error) {
	c := &importer{
		copier: copier{home: i.Home, meter: i.Meter, warn: i.Warn}, Import: i,
		targets: map[string]*target{}, keywords: map[string]keywords{}, warned: map[string]bool{}, head: bufio.NewReaderSize(nil, maxHead),
	}
	err := c.run(ctx)
	return c.result, explained(err)
}

func (c *importer) run(ctx context.Context) error {
	st, err := os.Stat(c.From)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		c.meter.Expect(0, uint64(st.Size()))
		return c.mbox(ctx, c.From, c.Folder)
	}
	found, err := findSources(c.From)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%s: %w", c.From, ErrNoMail)
	}
	for _, s := range found {
		c.meter.Expect(s.messages, s.octets)
	}
	for _, s := range found {
		folder := c.Folder + s.folder
		if !maildir.ValidFolder(folder) {
			return fmt.Errorf("%s: its name is too long for a folder below %s", s.path, shown(c.Folder))
		}
		if s.mbox {
			err = c.mbox(ctx, s.path, folder)
		} else {
			err = c.maildir(ctx, s.path, folder)
		}
		if err != nil {
			return err
		}
	}
	text, err := maildir.ReadBeside(filepath.Join(c.From, subscriptionsFile))
	if err != nil {
		return err
	}
	var lines []string
	for _, line := range maildir.Subscribed(text) {
		if c.Folder != "" {
			if line == "INBOX" {
				line = ""
			}
			line = strings.Trim(c.Folder[1:]+"."+line, ".")
		}
		lines = append(lines, line)
	}
	return c.subscribe(ctx, lines)
}

// maildir imports one folder of a maildir.
func (c *importer) maildir(ctx context.Context, dir, folder string) error {
	t, err := c.target(folder)
	if err != nil {
		return err
	}
	text, err := maildir.ReadBeside(dir + "/" + keywordsFile)
	if err != nil {
		return err
	}
	k := parseKeywords(text)
	messages, err := c.messagesIn(dir)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.has(uniqueOf(m.name), uint64(m.size)) {
			continue
		}
		path := dir + "/" + m.box + "/" + m.name
		err := c.file(ctx, t, &k, m, path)
		if err != nil && alone(err) {
			c.leaveOut(path, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// entry is a message of a maildir.
type entry struct {
	box, name string
	size      int64
	date      time.Time
}

// messagesIn lists the messages of a maildir in the order in which they came.
func (c *importer) messagesIn(dir string) ([]entry, error) {
	var list []entry
	for _, box := range []string{"cur", "new"} {
		entries, err := os.ReadDir(dir + "/" + box)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Name()[0] == '.' {
				continue
			}
			st, err := os.Stat(dir + "/" + box + "/" + e.Name()) // a symbolic link is what it leads to
			if err != nil || !st.Mode().IsRegular() {
				c.leaveOut(dir+"/"+box+"/"+e.Name(), cmp.Or(err, errors.New("it is no regular file")))
				continue
			}
			list = append(list, entry{box, e.Name(), st.Size(), st.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Or(a.date.Compare(b.date), cmp.Compare(a.name, b.name)) })
	return list, nil
}

func (c *importer) file(ctx context.Context, t *target, k *keywords, m entry, path string) error {
	f, err := maildir.Open(path)
	if err != nil {
		return &sourceError{err}
	}
	defer f.Close()
	letters, names := k.split(flagsOf(m.name))
	if letters, err = t.letters(ctx, letters, names); err != nil {
		return err
	}
	return t.put(mark{unique: uniqueOf(m.name), recent: m.box == "new" && letters == "", date: m.date}, letters, f, uint64(m.size))
}

// mbox imports an mbox.
func (c *importer) mbox(ctx context.Context, path, folder string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := newMboxReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	t, err := c.target(folder)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		err := ctx.Err()
		if err == nil {
			err = r.Next()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := c.mboxMessage(ctx, t, r); err != nil {
			err = fmt.Errorf("%s, message %d: %w", path, n, err)
			if !alone(err) {
				return err
			}
			c.leaveOut(fmt.Sprintf("%s, message %d", path, n), err)
		}
	}
}

func (c *importer) mboxMessage(ctx context.Context, t *target, r *mboxReader) error {
	counted := &countingReader{r: r}
	m, body, internal := takeMark(counted, c.head, r.date)
	if internal {
		return nil
	}
	if m.unique != "" && t.there[short(m.unique)] {
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		t.has(m.unique, counted.n)
		return nil
	}
	letters, err := t.letters(ctx, m.letters, m.keywords)
	if err != nil {
		return err
	}
	was := c.result
	if err := t.put(m, letters, body, 0); err != nil {
		return err
	}
	if c.result.Already > was.Already {
		c.meter.Skip(0, counted.n)
	} else {
		c.meter.Add(0, counted.n)
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n uint64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += uint64(n)
	return n, err
}
