package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// DefaultThreshold is the size above which a File is spilled, in bytes.
const DefaultThreshold = 1 << 20

// MaxSize is the largest size of a File, in bytes.
const MaxSize = 1 << 40

// Config of an Area.
type Config struct {
	// Dir is where spilled files lie: on a local disk, and not on a mount that this process serves. It is made (0700) when
	// it is missing.
	Dir string
	// Threshold is the size above which a File is spilled, in bytes. 0 means DefaultThreshold.
	Threshold int64
	// Budget bounds the memory of all Files that share it, and what is reserved beside them; nil: no bound.
	Budget *Budget
}

// Area is where Files are made. It is safe for concurrent use.
type Area struct {
	dir       string
	threshold int64
	budget    *Budget
	named     atomic.Bool // the file system knows no O_TMPFILE
}

const spillPrefix = "mailraft-spill-"

// NewArea makes the directory, and removes what a process that died in the wrong moment left there (empty files: they are
// unlinked before they are written to). Errors: those of the file system.
func NewArea(c Config) (*Area, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	for _, entry := range left {
		if !strings.HasPrefix(entry.Name(), spillPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(c.Dir, entry.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("staging: %w", err)
		}
	}
	a := &Area{dir: c.Dir, threshold: c.Threshold, budget: c.Budget}
	if a.threshold <= 0 {
		a.threshold = DefaultThreshold
	}
	return a, nil
}

// NewFile returns an empty File. It takes no memory and no disk before it is written to.
func (a *Area) NewFile() *File { return &File{area: a} }

// Reserve charges the Budget with n bytes that the caller is to hold beside its Files, if there is room. Release gives them back.
func (a *Area) Reserve(n int) bool { return a.budget.take(n) }

// Release gives back what Reserve has charged.
func (a *Area) Release(n int) { a.budget.give(n) }

// createSpill returns a new file that has no name.
func (a *Area) createSpill() (*os.File, error) {
	if !a.named.Load() {
		for {
			fd, err := unix.Open(a.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			switch {
			case err == nil:
				return os.NewFile(uintptr(fd), "spilled file"), nil
			case errors.Is(err, unix.EINTR):
				continue
			case !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL):
				// open(2), O_TMPFILE: the three answers of those that do not know it
				return nil, fmt.Errorf("staging: spill: %w", err)
			}
			a.named.Store(true)
			break
		}
	}
	f, err := os.CreateTemp(a.dir, spillPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("staging: spill: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.Close()
		return nil, fmt.Errorf("staging: spill: %w", err)
	}
	return f, nil
}

// Budget bounds the memory that the Files of a node, and what is reserved beside them, hold together. Above it, what grows is spilled.
// A nil *Budget bounds nothing. It is safe for concurrent use.
type Budget struct {
	max  int64
	used atomic.Int64
}

// NewBudget returns a Budget of that many bytes. It is exceeded only by the working buffers of reads and writes under way
// and, on a full disk, by 64 KiB a File, so that nothing written is lost.
func NewBudget(bytes int64) *Budget {
	return &Budget{max: bytes}
}

// Used returns how many bytes are held now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// take reserves n bytes, if there is room.
func (b *Budget) take(n int) bool {
	if b == nil {
		return true
	}
	if b.used.Add(int64(n)) > b.max {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// force reserves n bytes.
func (b *Budget) force(n int) {
	if b != nil {
		b.used.Add(int64(n))
	}
}

// give gives n bytes back.
func (b *Budget) give(n int) {
	if b != nil {
		b.used.Add(-int64(n))
	}
}
