package pop3

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/proxy/maildir"
)

// The exclusive-access lock of a maildrop (RFC 1939, 4), across all processes and nodes that see the mount.
//
// A session that wants the maildrop first hoists a flag: an empty file in the account's home with a name of its own,
// ".pop3-lock.<owner>.<random>". Then it lists the home. If there is another flag that flies rightly, it takes its own down and
// gives up (IN-USE); else the maildrop is its own. A creation is a commit and a listing is never stale, so of two sessions that
// come at once, the one whose flag went up later sees the other's: never do both get in (that neither does is possible, and
// IN-USE tells their clients to try again).
//
// The holder touches its flag every minute. A flag untouched for five minutes, or whose owner is known to be dead (owner.go),
// flies wrongly: whoever finds it takes it down. As no name is ever used twice, a flag can be taken down only on behalf of the
// session that it stood for; with one common name, two that broke a stale lock could remove each other's fresh one.
// A holder that finds its flag gone has lost the maildrop: it ends without removing anything.
//
// The times are those of the nodes' clocks, which may differ by the four minutes between touch and stale. Were they further
// apart, two sessions might share a maildrop: they would see and remove the same messages by UID, which harms nobody.
const (
	lockPrefix  = ".pop3-lock."
	lockRefresh = time.Minute
	lockStale   = 5 * time.Minute
)

// errInUse is the error of a maildrop that another session has.
var errInUse = errors.New("maildrop in use")

// dropLock is a flag that flies. A nil *dropLock is that of a maildrop that had no room for one.
type dropLock struct{ path string }

// lockDrop locks the maildrop at home, or fails with errInUse, or with an error of the mount: isFull if there was no room.
func lockDrop(home string, stale time.Duration) (*dropLock, error) {
	name := lockPrefix + thisProcess().String() + "." + rand.Text()
	l := &dropLock{path: home + "/" + name}
	if err := createEmpty(l.path); err != nil {
		if !isFull(err) {
			unlink(l.path) // it may have been made all the same
		}
		return nil, err
	}
	others, err := otherFlags(home, name, stale)
	if err == nil && others > 0 {
		err = errInUse
	}
	if err != nil {
		l.unlock()
		return nil, err
	}
	return l, nil
}

// otherFlags counts the flags in home, own apart, that fly rightly, and takes the others down.
func otherFlags(home, own string, stale time.Duration) (int, error) {
	dir, err := maildir.Open(home)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, name := range names {
		owner, ok := strings.CutPrefix(name, lockPrefix)
		if !ok || name == own {
			continue
		}
		path := home + "/" + name
		if !ownerIsDead(owner) {
			info, err := os.Lstat(path)
			if os.IsNotExist(err) {
				continue // taken down meanwhile
			}
			if err != nil {
				return 0, err
			}
			if time.Since(info.ModTime()).Abs() < stale {
				count++
				continue
			}
		}
		if err := unlink(path); err != nil && !os.IsNotExist(err) {
			return 0, err
		}
	}
	return count, nil
}

// touch says that the holder is still there. After fs.ErrNotExist it has lost the maildrop.
func (l *dropLock) touch() error {
	if l == nil {
		return nil
	}
	now := time.Now()
	return os.Chtimes(l.path, now, now)
}

// unlock lets go of the maildrop.
func (l *dropLock) unlock() error {
	if l == nil {
		return nil
	}
	return unlink(l.path)
}

// createEmpty makes an empty file of a name that nobody else uses.
func createEmpty(path string) error {
	for interrupted := false; ; interrupted = true {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		switch {
		case err == unix.EINTR:
		case err == unix.EEXIST && interrupted:
			return nil
		case err != nil:
			return &os.PathError{Op: "create", Path: path, Err: err}
		default:
			return unix.Close(fd)
		}
	}
}

// isFull says whether an error means that there is no room for a file.
func isFull(err error) bool {
	return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC)
}

// accountLocks holds the accounts that have a session in this process: what most clashes need, and all that there is for a
// maildrop without room for a flag.
type accountLocks struct {
	mu   sync.Mutex
	held map[string]struct{}
}

// enter takes an account and returns what gives it back, or false when it is taken.
func (a *accountLocks) enter(account string) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.held[account]; taken {
		return nil, false
	}
	if a.held == nil {
		a.held = make(map[string]struct{})
	}
	a.held[account] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.held, account)
	}, true
}
