package imap

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/maildir"
)

// What one command may ask for is limited.
func TestCommandLimits(t *testing.T) {
	w := newWorld(t)
	w.deliver("", testMessage(1), "")
	c := w.selected("INBOX")
	for _, test := range []struct{ before, repeated, after string }{
		{"SEARCH ALL", " 1:*", ""},
		{"SEARCH ALL", " NOT 1", ""},
		{"SEARCH ALL", " TEXT x", ""},
		{"FETCH 1 (UID", " BINARY.SIZE[1]", ")"},
		{"FETCH 1 (UID", " BODY.PEEK[HEADER]", ")"},
		{"LIST \"\" (INBOX", " *%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*", ")"},
	} {
		c.ok(test.before + strings.Repeat(test.repeated, 20) + test.after)
		c.fails(test.before+strings.Repeat(test.repeated, 45_000/len(test.repeated))+test.after, "NO [LIMIT]")
	}
}

// Hundreds of sets of messages cost what their text costs, however many messages there are.
func TestSearchSetsAreSmall(t *testing.T) {
	const n = 100_000
	v := &view{messages: make([]message, n), told: n}
	for i := range v.messages {
		v.messages[i].Message = maildir.Message{UID: uint32(10 * i)}
	}
	c := &imap.SearchCriteria{}
	for range 500 {
		c.Not = append(c.Not, imap.SearchCriteria{UID: []imap.UIDSet{{{Start: 5, Stop: 0}}}})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v.compile(c)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d bytes for 500 sets", used)
	}
	set := imap.UIDSet{{Start: 5, Stop: 30}, {Start: 50, Stop: 50}, {Start: 70, Stop: 65}, {Start: 999_980, Stop: 0}, {Start: 0, Stop: 0}}
	want := []int{1, 2, 3, 5, 7, 99_998, 99_999}
	if got := v.resolve(set); !slices.Equal(got, want) {
		t.Errorf("resolved to %v", got)
	}
	for _, i := range []int{0, 1, 3, 4, 5, 6, 7, 8, 99_997, 99_999} {
		if got := holds(v.spans(set), i); got != slices.Contains(want, i) {
			t.Errorf("holds %d: %v", i, got)
		}
	}
}

// A session that has ended does not work through what is left of a command.
func TestEndedSessionStops(t *testing.T) {
	for _, command := range []string{"STORE 1:3 +FLAGS (\\Seen)", "COPY 1:3 Sent", "MOVE 1:3 Sent", "EXPUNGE", "SEARCH ALL", "FETCH 1:3 FLAGS",
		`LIST "" *`} {
		w := newWorld(t)
		w.mkdir(".Sent")
		for n := range 3 {
			w.deliver("", testMessage(n), "T")
		}
		c := w.selected("INBOX")
		before := w.names("")
		w.server.cancel()
		c.fails(command, "NO [UNAVAILABLE]")
		if after := w.names(""); !slices.Equal(before, after) || len(w.names(".Sent")) > 0 {
			t.Errorf("%s went on: %v", command, after)
		}
		if entries, _ := os.ReadDir(w.home + "/.Sent/tmp"); len(entries) > 0 {
			t.Errorf("%s left %v", command, entries)
		}
	}
}
