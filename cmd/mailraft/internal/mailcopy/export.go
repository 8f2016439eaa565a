package mailcopy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mailraft/cmd/mailraft/internal/progress"
	"mailraft/proxy/maildir"
	"mailraft/raftstore/durable"
)

// Format is what an account is exported to.
type Format int

const (
	Maildir     Format = iota // a folder: a Maildir++
	MboxFolder                // a folder with an mbox for each of the account's
	MboxOneFile               // one mbox of one folder
)

func (f Format) String() string { return [...]string{"maildir", "mbox", "one mbox"}[f] }

// Export says what goes where.
type Export struct {
	Address string
	Home    string // the account's Maildir++ on the mount
	To      string // must not be there, or be an empty folder
	Format  Format
	Folder  *string // just this one; nil: all, and of MboxOneFile INBOX
	Owner   *[2]int // uid and gid of what is written; nil: who runs it
	Meter   *progress.Meter
	Warn    func(format string, args ...any)
}

// ErrThere says that the place of an export is taken.
var ErrThere = fmt.Errorf("is there already: %w", os.ErrExist)

// partSuffix is behind the name of an export that is not whole.
const partSuffix = ".part"

// markSuffix is behind the name of a file beside an export that is not whole. It says of what that is, and since which boot: what was
// written before a power cut may not have come to the disk, so it is written again.
const markSuffix = ".part-of"

// exporter is an export that runs.
type exporter struct {
	copier
	Export
	part string
}

// Run exports. It is in its place, synced, when Run returns without an error; until then beside it, with ".part" behind its name, where
// the next run goes on. Errors: ErrThere, ErrLocked, ctx's.
func (e Export) Run(ctx context.Context) (Result, error) {
	x := &exporter{copier{home: e.Home, meter: e.Meter, warn: e.Warn}, e, strings.TrimRight(e.To, "/") + partSuffix}
	err := x.run(ctx)
	return x.result, explained(err)
}

func (x *exporter) run(ctx context.Context) error {
	if err := x.free(); err != nil {
		return err
	}
	folders, err := x.folders()
	if err != nil {
		return err
	}
	indexes := make([]*maildir.Index, len(folders))
	for i, f := range folders {
		if indexes[i], err = maildir.ReadIndex(maildir.FolderPath(x.home, f)); err != nil {
			return err
		}
		octets := uint64(0)
		for _, m := range indexes[i].Messages {
			octets += uint64(m.Size)
		}
		x.meter.Expect(uint64(len(indexes[i].Messages)), octets)
	}
	if err := x.begin(); err != nil {
		return err
	}
	for i, f := range folders {
		switch x.Format {
		case Maildir:
			err = x.maildirFolder(ctx, f, indexes[i])
		case MboxFolder:
			err = x.mboxFile(ctx, f, indexes[i], filepath.Join(x.part, mboxName(f)))
		case MboxOneFile:
			err = x.mboxFile(ctx, f, indexes[i], x.part)
		}
		if err != nil {
			return fmt.Errorf("folder %s: %w", shown(f), err)
		}
		x.result.Folders++
	}
	if x.Format == Maildir && x.Folder == nil {
		if err := x.small(subscriptionsFile, x.part); err != nil {
			return err
		}
	}
	return x.end()
}

// mboxName is the file of a folder: its name in the Maildir++, without the first dot.
func mboxName(folder string) string {
	if folder == "" {
		return "INBOX.mbox"
	}
	return folder[1:] + ".mbox"
}

// free makes sure that nothing is where the export is to be.
func (x *exporter) free() error {
	entries, err := os.ReadDir(x.To)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err == nil && len(entries) == 0 && x.Format != MboxOneFile:
		return nil
	}
	return fmt.Errorf("%s %w; name a place where nothing is", x.To, ErrThere)
}

func (x *exporter) folders() ([]string, error) {
	if x.Folder != nil || x.Format == MboxOneFile {
		f := ""
		if x.Folder != nil {
			f = *x.Folder
		}
		if !maildir.FolderExists(x.home, f) {
			return nil, fmt.Errorf("folder %s: %w", shown(f), os.ErrNotExist)
		}
		return []string{f}, nil
	}
	return maildir.Folders(x.home)
}

// begin makes the place of what is not whole yet, or takes up what a run before left there.
func (x *exporter) begin() error {
	if x.Format == MboxOneFile {
		return nil // written from its beginning
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	mark := x.mark()
	text := fmt.Sprintf("%s\n%s\n", x.Address, x.Format)
	switch was, err := os.ReadFile(mark); {
	case err == nil && string(was) == text+string(boot):
		return os.MkdirAll(x.part, 0o700)
	case err == nil && strings.HasPrefix(string(was), text):
		if err := os.RemoveAll(x.part); err != nil {
			return err
		}
	case err == nil:
		first, _, _ := strings.Cut(string(was), "\n")
		return fmt.Errorf("%s %w: an export of %s that was cut off; remove it, or name another place", x.part, ErrThere, first)
	case !errors.Is(err, os.ErrNotExist):
		return err
	default:
		if entries, err := os.ReadDir(x.part); err == nil && len(entries) > 0 {
			return fmt.Errorf("%s %w, and is no export that was cut off; remove it, or name another place", x.part, ErrThere)
		}
	}
	if err := durable.WriteFile(mark, []byte(text+string(boot)), 0o600); err != nil {
		return err
	}
	return os.MkdirAll(x.part, 0o700)
}

func (x *exporter) mark() string { return strings.TrimRight(x.To, "/") + markSuffix }

// end puts the export in its place.
func (x *exporter) end() error {
	if x.Owner != nil {
		err := filepath.WalkDir(x.part, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, x.Owner[0], x.Owner[1])
		})
		if err != nil {
			return err
		}
	}
	if err := syncAll(x.part); err != nil {
		return err
	}
	err := durable.Rename(x.part, strings.TrimRight(x.To, "/"))
	if err == nil && x.Format != MboxOneFile {
		err = os.Remove(x.mark())
	}
	return err
}

// syncAll has all below a path on the disk. syncfs(2) would wait for what others write as well.
func syncAll(path string) error {
	turns := make(chan struct{}, 16)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	err := filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		turns <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-turns }()
			f, err := os.Open(path)
			if err == nil {
				err = errors.Join(f.Sync(), f.Close())
			}
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		}()
		return nil
	})
	wg.Wait()
	return errors.Join(err, failed)
}

// open opens a message. One whose flags have changed since the index was read has another name: it is looked up by its UID. nil: it is
// gone.
func (x *exporter) open(dir string, m *maildir.Message) (*os.File, error) {
	f, err := maildir.Open(dir + "/" + m.Name)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	now, err := maildir.ReadIndex(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // the folder too
		}
		return nil, err
	}
	i, found := slices.BinarySearchFunc(now.Messages, m.UID, func(m maildir.Message, uid uint32) int { return int(int64(m.UID) - int64(uid)) })
	if !found {
		return nil, nil
	}
	*m = now.Messages[i]
	f, err = maildir.Open(dir + "/" + m.Name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// copyOut writes a message to a file and answers its octets, unless it is gone.
func (x *exporter) maildirFolder(ctx context.Context, folder string, index *maildir.Index) error {
	dir, to := maildir.FolderPath(x.home, folder), maildir.FolderPath(x.part, folder)
	if err := maildir.CreateFolder(x.part, folder); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	left := map[string]string{} // what a run before has written: path by unique name
	for _, box := range []string{"cur", "new"} {
		entries, err := os.ReadDir(to + "/" + box)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name, _, _ := strings.Cut(e.Name(), ":2,")
			left[name] = box + "/" + e.Name()
		}
	}
	for i := range index.Messages {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := &index.Messages[i]
		if was, ok := left[m.Key()]; ok {
			if st, err := os.Stat(to + "/" + was); err == nil && st.Size() == m.Size {
				delete(left, m.Key())
				if was != m.Name {
					if err := os.Rename(to+"/"+was, to+"/"+m.Name); err != nil {
						return err
					}
				}
				x.result.Already++
				x.meter.Skip(1, uint64(m.Size))
				continue
			}
		}
		if err := x.maildirMessage(dir, to, m); err != nil {
			return err
		}
		if was, ok := left[m.Key()]; ok && was == m.Name {
			delete(left, m.Key())
		}
	}
	for _, gone := range left { // removed since, or of another size than it should have
		if err := os.Remove(to + "/" + gone); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return x.small(keywordsFile, to, folder)
}

func (x *exporter) maildirMessage(dir, to string, m *maildir.Message) error {
	in, err := x.open(dir, m)
	if err != nil || in == nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	tmp := to + "/tmp/" + filepath.Base(m.Key())
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, struct{ io.Reader }{in}) // copy_file_range(2) is of no use between file systems
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Chtimes(tmp, st.ModTime(), st.ModTime())
	}
	if err == nil {
		err = os.Rename(tmp, to+"/"+m.Name)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	x.done(uint64(n))
	return nil
}

func (x *exporter) done(octets uint64) {
	x.result.Messages++
	x.result.Octets += octets
	x.meter.Add(1, octets)
}

// small copies one of the files beside the messages, if it is there, of the home or of a folder.
func (x *exporter) small(name, to string, folder ...string) error {
	from := x.home
	if len(folder) > 0 {
		from = maildir.FolderPath(x.home, folder[0])
	}
	text, err := maildir.ReadBeside(from + "/" + name)
	if err != nil || text == nil {
		return err
	}
	return os.WriteFile(to+"/"+name, text, 0o600)
}

// mboxFile writes a folder to an mbox.
func (x *exporter) mboxFile(ctx context.Context, folder string, index *maildir.Index, to string) (err error) {
	dir := maildir.FolderPath(x.home, folder)
	text, err := maildir.ReadBeside(dir + "/" + keywordsFile)
	if err != nil {
		return err
	}
	k := parseKeywords(text)
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := bufio.NewWriterSize(out, 1<<20)
	for i := range index.Messages {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := &index.Messages[i]
		in, err := x.open(dir, m)
		if err != nil {
			return err
		}
		if in == nil {
			continue
		}
		mk := mark{unique: uniqueOf(m.Key()), recent: strings.HasPrefix(m.Name, "new/"), date: m.Date}
		mk.letters, mk.keywords = k.split(m.Flags())
		if err := errors.Join(writeMbox(w, in, mk), in.Close()); err != nil {
			return fmt.Errorf("message %d: %w", m.UID, err)
		}
		x.done(uint64(m.Size))
	}
	return w.Flush()
}
