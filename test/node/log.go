package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Entry is one entry of the daemon's log: its attributes by name, with "msg" and "level" among them.
type Entry map[string]any

// Is says whether the entry has that message and those attributes, given as pairs of name and value.
func (e Entry) Is(msg string, attrs ...any) bool {
	if e["msg"] != msg {
		return false
	}
	for i := 0; i+1 < len(attrs); i += 2 {
		if fmt.Sprint(e[attrs[i].(string)]) != fmt.Sprint(attrs[i+1]) {
			return false
		}
	}
	return true
}

// journal collects what a daemon and its children write to standard error.
type journal struct {
	mu      sync.Mutex
	more    chan struct{} // closed, and made again, with each line
	lines   []string
	entries []Entry
	stray   []string // lines that are no entries: a panic, the race detector's report
	ended   bool     // no process has the pipe any more
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

// read takes everything up to the end, which is when all processes that have the pipe are gone.
func (j *journal) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		j.mu.Lock()
		if line = strings.TrimRight(line, "\n"); line != "" {
			j.lines = append(j.lines, line)
			var e Entry
			if json.Unmarshal([]byte(line), &e) == nil {
				j.entries = append(j.entries, e)
			} else {
				j.stray = append(j.stray, line)
			}
		}
		j.ended = err != nil
		close(j.more)
		j.more = make(chan struct{})
		j.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// length is how many entries there are.
func (j *journal) length() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// await waits until an entry from number from on is as wanted. It is false when the log ended, or the time is over, before.
func (j *journal) await(from int, wanted func(Entry) bool, patience time.Duration) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		j.mu.Lock()
		entries, ended, more := j.entries, j.ended, j.more
		j.mu.Unlock()
		for ; from < len(entries); from++ {
			if wanted(entries[from]) {
				return true
			}
		}
		if ended {
			return false
		}
		select {
		case <-more:
		case <-late.C:
			return false
		}
	}
}

// awaitEnd waits until all processes that write the log are gone.
func (j *journal) awaitEnd(patience time.Duration) bool {
	j.await(0, func(Entry) bool { return false }, patience)
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ended
}

// tail is the end of the log, for people.
func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	const most = 60
	return strings.Join(j.lines[max(0, len(j.lines)-most):], "\n")
}

func (j *journal) all() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// complaints are the lines that no healthy daemon writes: what is no entry, and entries at level ERROR whose message is not among
// the expected ones.
func (j *journal) complaints(expected map[string]bool) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.stray[:len(j.stray):len(j.stray)]
	for _, e := range j.entries {
		if msg, _ := e["msg"].(string); e["level"] == "ERROR" && !expected[msg] && !outlived(e) {
			b, _ := json.Marshal(e) // it came from JSON
			all = append(all, string(b))
		}
	}
	return all
}

// outlived tells whether a proxy complains that the mount under it has gone, as it may after its daemon was killed.
func outlived(e Entry) bool {
	err, _ := e["error"].(string)
	return e["proxy"] != nil && (strings.HasSuffix(err, "software caused connection abort") || strings.HasSuffix(err, "transport endpoint is not connected"))
}
