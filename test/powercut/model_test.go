package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	ServeIfAsked()
	stormIfAsked()
	os.Exit(m.Run())
}

func start(t *testing.T) *Drive {
	t.Helper()
	d, err := Start(t.TempDir())
	if err != nil {
		t.Fatalf("%v (the test needs root and /dev/fuse)", err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a story of system calls, one a line, below dir. "fsync" works on files and directories.
func do(t *testing.T, dir, story string) {
	t.Helper()
	for line := range strings.Lines(story) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		path := func(i int) string { return filepath.Join(dir, w[i]) }
		var err error
		switch w[0] {
		case "write":
			err = os.WriteFile(path(1), []byte(w[2]), 0o644)
		case "append", "append-sync":
			flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
			if w[0] == "append-sync" {
				flags |= os.O_SYNC
			}
			f, ferr := os.OpenFile(path(1), flags, 0o644)
			must(t, ferr)
			_, err = f.WriteString(w[2])
			must(t, f.Close())
		case "truncate":
			err = os.Truncate(path(1), 2)
		case "fsync", "fdatasync":
			f, ferr := os.Open(path(1))
			must(t, ferr)
			if err = f.Sync(); w[0] == "fdatasync" {
				err = syscall.Fdatasync(int(f.Fd()))
			}
			must(t, f.Close())
		case "mkdir":
			err = os.Mkdir(path(1), 0o755)
		case "remove":
			err = os.Remove(path(1))
		case "rename":
			err = os.Rename(path(1), path(2))
		case "link":
			err = os.Link(path(1), path(2))
		case "symlink":
			err = os.Symlink(w[1], path(2))
		default:
			t.Fatalf("no such call: %s", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
}

// show lists everything below dir: "name=content", "name/", "name->target".
func show(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case e.IsDir():
			name += "/"
		case e.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += "->" + to
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name += "=" + string(b)
		}
		list = append(list, name)
		return nil
	})
	must(t, err)
	return strings.Join(list, " ")
}

func TestWhatSurvives(t *testing.T) {
	for name, c := range map[string]struct{ story, before, after string }{
		"nothing synced":            {"write a 1", "a=1", ""},
		"file synced, name not":     {"write a 1 \n fsync a", "a=1", ""},
		"name synced, file not":     {"write a 1 \n fsync .", "a=1", "a="},
		"both":                      {"write a 1 \n fsync a \n fsync .", "a=1", "a=1"},
		"fdatasync keeps the size":  {"write a 1 \n fsync . \n append a 23 \n fdatasync a", "a=123", "a=123"},
		"written after the sync":    {"write a 1 \n fsync a \n fsync . \n append a 2", "a=12", "a=1"},
		"O_SYNC":                    {"write a 1 \n fsync a \n fsync . \n append-sync a 2", "a=12", "a=12"},
		"truncated, not synced":     {"write a 1234 \n fsync a \n fsync . \n truncate a", "a=12", "a=1234"},
		"truncated and synced":      {"write a 1234 \n fsync a \n fsync . \n truncate a \n fsync a", "a=12", "a=12"},
		"overwritten, not synced":   {"write a 1234 \n fsync a \n fsync . \n write a 5", "a=5", "a=1234"},
		"removed, not synced":       {"write a 1 \n fsync a \n fsync . \n remove a", "", "a=1"},
		"removed and synced":        {"write a 1 \n fsync a \n fsync . \n remove a \n fsync .", "", ""},
		"renamed, not synced":       {"write a 1 \n fsync a \n fsync . \n rename a b", "b=1", "a=1"},
		"renamed and synced":        {"write a 1 \n fsync a \n fsync . \n rename a b \n fsync .", "b=1", "b=1"},
		"replaced, not synced":      {"write a 1 \n write b 2 \n fsync a \n fsync b \n fsync . \n rename a b", "b=1", "a=1 b=2"},
		"replaced by empty":         {"write a 1 \n fsync a \n fsync . \n write b 2 \n rename b a \n fsync .", "a=2", "a="},
		"linked, not synced":        {"write a 1 \n fsync a \n fsync . \n link a b", "a=1 b=1", "a=1"},
		"linked and synced":         {"write a 1 \n fsync a \n link a b \n remove a \n fsync .", "b=1", "b=1"},
		"symbolic link":             {"symlink x a \n fsync . \n symlink y b", "a->x b->y", "a->x"},
		"folder synced, parent not": {"mkdir d \n write d/a 1 \n fsync d/a \n fsync d", "d/ d/a=1", ""},
		"parent synced, folder not": {"mkdir d \n write d/a 1 \n fsync d/a \n fsync .", "d/ d/a=1", "d/"},
		"folder and parent synced":  {"mkdir d \n write d/a 1 \n fsync d/a \n fsync d \n fsync .", "d/ d/a=1", "d/ d/a=1"},
		"renamed to another folder, one of them synced": {
			"mkdir d \n write a 1 \n fsync a \n fsync . \n rename a d/a \n fsync d", "d/ d/a=1", "d/ d/a=1"},
		"renamed to another folder, none synced": {
			"mkdir d \n write a 1 \n fsync a \n fsync . \n rename a d/a", "d/ d/a=1", "a=1 d/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t)
			do(t, d.Path, c.story)
			if got := show(t, d.Path); got != c.before {
				t.Fatalf("before the cut: %q, want %q", got, c.before)
			}
			must(t, d.Lose())
			must(t, d.Restore())
			if got := show(t, d.Path); got != c.after {
				t.Errorf("after the cut: %q, want %q", got, c.after)
			}
		})
	}
}

// TestTornWrites writes over synced blocks and into new ones; each sector must be an old or a new one afterwards, over many
// cuts some of either, and what was synced whole.
func TestTornWrites(t *testing.T) {
	const size, seeds = 8 * 4096, 12
	var kept, lost, torn, lengths int
	for seed := range uint64(seeds) {
		d := start(t)
		path := filepath.Join(d.Path, "a")
		must(t, os.WriteFile(path, bytes.Repeat([]byte("a"), size), 0o644))
		must(t, os.WriteFile(filepath.Join(d.Path, "b"), bytes.Repeat([]byte("s"), size), 0o644))
		do(t, d.Path, "fsync a \n fsync b \n fsync .")
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.Write(bytes.Repeat([]byte("b"), 2*size))
		must(t, errors.Join(err, f.Close()))
		must(t, d.Tear(seed))
		must(t, d.Restore())
		got, err := os.ReadFile(path)
		must(t, err)
		if len(got) < size || len(got) > 2*size {
			t.Fatalf("seed %d: %d octets", seed, len(got))
		}
		if len(got) != size && len(got) != 2*size {
			lengths++
		}
		for at := 0; at+4096 <= size; at += 4096 {
			news := 0
			for s := at; s < at+4096; s += 512 {
				switch string(got[s : s+512]) {
				case strings.Repeat("a", 512):
				case strings.Repeat("b", 512):
					news++
				default:
					t.Fatalf("seed %d: sector at %d is neither old nor new", seed, s)
				}
			}
			switch news {
			case 0:
				lost++
			case 8:
				kept++
			default:
				torn++
			}
		}
		whole, err := os.ReadFile(filepath.Join(d.Path, "b"))
		must(t, err)
		if !bytes.Equal(whole, bytes.Repeat([]byte("s"), size)) {
			t.Fatalf("seed %d: a synced file lost something", seed)
		}
	}
	if kept == 0 || lost == 0 || torn == 0 || lengths == 0 {
		t.Errorf("over %d seeds: %d blocks came through, %d did not, %d in part; %d sizes between", seeds, kept, lost, torn, lengths)
	}
}

// TestTornNames makes names in two folders without a sync: a rename between them has happened in both or in neither, and a
// folder's names come through in the order in which they were made.
func TestTornNames(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(16) {
		d := start(t)
		do(t, d.Path, "mkdir d \n mkdir e \n fsync . \n write d/1 x \n write d/2 x \n rename d/1 e/1 \n write e/2 x \n write d/3 x")
		must(t, d.Tear(seed))
		must(t, d.Restore())
		var names []string
		for _, w := range strings.Fields(show(t, d.Path)) {
			name, _, _ := strings.Cut(w, "=")
			names = append(names, name)
		}
		got := strings.Join(names, " ")
		seen[got] = true
		switch got {
		case "d/ e/", "d/ d/1 e/", "d/ d/1 d/2 e/", "d/ d/2 e/ e/1", "d/ d/2 d/3 e/ e/1", "d/ d/2 e/ e/1 e/2", "d/ d/2 d/3 e/ e/1 e/2":
		default:
			t.Errorf("seed %d: %s", seed, got)
		}
	}
	if len(seen) < 3 {
		t.Errorf("always the same came through: %v", seen)
	}
}

// TestForgottenSync runs a program that keeps a journal and acknowledges what it has written, and programs that forget one of
// its syncs: those are found out by a cut, the other is not.
func TestForgottenSync(t *testing.T) {
	for _, c := range []struct {
		forgets string
		kept    int
	}{{"nothing", 10}, {"the folder", 0}, {"the file", 0}, {"the file at the end", 9}} {
		t.Run(c.forgets, func(t *testing.T) {
			d := start(t)
			f, err := os.OpenFile(filepath.Join(d.Path, "journal"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			must(t, err)
			if c.forgets != "the folder" {
				do(t, d.Path, "fsync .")
			}
			for i := range 10 {
				_, err := f.WriteString("acknowledged\n")
				must(t, err)
				if c.forgets != "the file" && (c.forgets != "the file at the end" || i < 9) {
					must(t, f.Sync())
				}
			}
			must(t, f.Close())
			must(t, d.Lose())
			must(t, d.Restore())
			b, err := os.ReadFile(filepath.Join(d.Path, "journal"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), "acknowledged\n"); n != c.kept {
				t.Errorf("%d records are there, not %d", n, c.kept)
			}
		})
	}
}

// TestCutHangs shows that nobody who uses the disk can acknowledge anything from the cut on, or, where it only hangs, from there on.
func TestCutHangs(t *testing.T) {
	for _, when := range []When{LoseAt, TearAt, HangAt} {
		t.Run(string(when), func(t *testing.T) {
			d := start(t)
			f, err := os.Create(filepath.Join(d.Path, "late"))
			must(t, err)
			defer f.Close()
			must(t, d.AtSync(when, 1))
			done := make(chan error, 1)
			go func() { done <- f.Sync() }()
			must(t, d.Await())
			select {
			case err := <-done:
				t.Fatalf("the sync was answered: %v", err)
			default:
			}
			must(t, d.Restore())
			if err := <-done; err == nil {
				t.Error("the sync is done, and it is not")
			}
		})
	}
}

// TestMapping reads through a mapping what is written through a descriptor, as bbolt does.
func TestMapping(t *testing.T) {
	d := start(t)
	path := filepath.Join(d.Path, "map")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(64<<10))
	m, err := syscall.Mmap(int(f.Fd()), 0, 64<<10, syscall.PROT_READ, syscall.MAP_SHARED)
	must(t, err)
	defer syscall.Munmap(m)
	for i := range 100 {
		want := fmt.Sprintf("page %d", i)
		at := int64(i%16) * 4096
		_, err := f.WriteAt([]byte(want), at)
		must(t, err)
		if got := string(m[at : at+int64(len(want))]); got != want {
			t.Fatalf("mapped %q, written %q", got, want)
		}
	}
}

// TestLock shows that flock(2) works, and that its holder's death and a restore end it.
func TestLock(t *testing.T) {
	d := start(t)
	lock := func() (*os.File, error) {
		f, err := os.OpenFile(filepath.Join(d.Path, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
		must(t, err)
		return f, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	f, err := lock()
	must(t, err)
	if g, err := lock(); err != syscall.EWOULDBLOCK {
		t.Errorf("second lock: %v", err)
	} else {
		g.Close()
	}
	must(t, d.Lose())
	must(t, d.Restore())
	g, err := lock()
	must(t, err)
	g.Close()
	f.Close()
}
