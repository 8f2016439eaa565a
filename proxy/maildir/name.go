package maildir

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// flagSeparator stands between a message's key and its flags (maildir(5): "info").
const flagSeparator = ":2,"

// Message is one message of a folder, as its index tells of it.
type Message struct {
	UID    uint32
	ModSeq uint64    // of its last change: delivery, flags
	Size   int64     // bytes of the file
	Date   time.Time // when it was delivered, whole seconds: IMAP's INTERNALDATE
	Name   string    // path below the folder, "cur/..." or "new/..."
}

// Flags returns the letters behind ":2,", in the order in which they stand there; "" when there are none.
func (m Message) Flags() string {
	_, flags, _ := strings.Cut(m.Name, flagSeparator)
	return flags
}

// Key returns what stays the same when flags change and when the message goes from new to cur: the file name without its
// directory and flags.
func (m Message) Key() string {
	key := m.Name[strings.IndexByte(m.Name, '/')+1:]
	key, _, _ = strings.Cut(key, flagSeparator)
	return key
}

// VirtualSize returns the message's size in bytes with CRLF line ends (RFC822.SIZE), as its name tells by Maildir++'s field
// ",W=", or false when the name does not tell: then the message has to be read through CRLFReader to know. What it tells counts only if
// its size on disk, by ",S=", is the one that the index has: else what is read is not what was written.
func (m Message) VirtualSize() (int64, bool) {
	rest := m.Key()
	if _, field, ok := strings.Cut(rest, ",S="); ok {
		digits, _, _ := strings.Cut(field, ",")
		if size, err := strconv.ParseInt(digits, 10, 64); err != nil || size != m.Size {
			return 0, false
		}
	}
	for {
		var ok bool
		if _, rest, ok = strings.Cut(rest, ",W="); !ok {
			return 0, false
		}
		digits, _, _ := strings.Cut(rest, ",")
		if size, err := strconv.ParseUint(digits, 10, 63); err == nil {
			return int64(size), true
		}
	}
}

var (
	pid        = os.Getpid()
	deliveries atomic.Uint64 // names made by this process
)

// newName makes a file name that no other delivery on any node has: time, process, counter, randomness and host name, as
// maildir(5) asks for.
func newName(now time.Time) string {
	b := make([]byte, 0, 96)
	b = strconv.AppendInt(b, now.Unix(), 10)
	b = append(b, ".M"...)
	b = strconv.AppendInt(b, int64(now.Nanosecond()/1000), 10)
	b = append(b, 'P')
	b = strconv.AppendInt(b, int64(pid), 10)
	b = append(b, 'Q')
	b = strconv.AppendUint(b, deliveries.Add(1), 10)
	b = append(b, 'R')
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint64(nil, rand.Uint64()))
	b = append(b, '.')
	b = append(b, host()...)
	return string(b)
}

// host returns this machine's name, with the bytes that have a meaning in file names of messages escaped (maildir(5)).
var host = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	if len(name) > 64 {
		name = name[:64]
	}
	return strings.NewReplacer("/", `\057`, ":", `\072`, ",", `\054`).Replace(name)
})

// normalFlags sorts flag letters and drops doubles, as maildir(5) wants them.
func normalFlags(flags string) (string, error) {
	for _, c := range []byte(flags) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", fmt.Errorf("maildir: flag %q is no letter", c)
		}
	}
	letters := []byte(flags)
	slices.Sort(letters)
	return string(slices.Compact(letters)), nil
}
