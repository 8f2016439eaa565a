package imap

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// mirror is what a client believes of its mailbox, from the server's answers alone: the UIDs by sequence number.
type mirror struct {
	c    *raw
	uids []string // "" where it does not know
}

// take takes untagged answers in (RFC 9051, 7.4.1 and 7.5.1).
func (m *mirror) take(untagged []string) error {
	for _, line := range untagged {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[2] {
		case "EXISTS":
			if n < len(m.uids) {
				return fmt.Errorf("%s, but there were %d", line, len(m.uids))
			}
			m.uids = append(m.uids, make([]string, n-len(m.uids))...)
		case "EXPUNGE":
			if n < 1 || n > len(m.uids) {
				return fmt.Errorf("%s of %d", line, len(m.uids))
			}
			m.uids = append(m.uids[:n-1], m.uids[n:]...)
		case "FETCH":
			_, rest, ok := strings.Cut(line, "UID ")
			if !ok {
				continue
			}
			uid := strings.TrimRight(strings.Fields(rest)[0], ")")
			if n < 1 || n > len(m.uids) {
				return fmt.Errorf("%s of %d", line, len(m.uids))
			}
			if m.uids[n-1] != "" && m.uids[n-1] != uid {
				return fmt.Errorf("%s, but %d was UID %s", line, n, m.uids[n-1])
			}
			m.uids[n-1] = uid
		}
	}
	return nil
}

// Several clients change the same mailboxes at once. None may ever be told what does not fit what it was told before, and in the
// end all see the same.
func TestConcurrentSessions(t *testing.T) {
	w := newWorld(t)
	w.mkdir(".Other")
	for n := range 30 {
		w.deliver("", testMessage(n), "")
	}
	folders := []string{"INBOX", "Other"}
	var clients []*mirror
	for n := range 6 {
		m := &mirror{c: w.login()}
		if err := m.take(m.c.ok("SELECT " + folders[n%2])); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, m)
	}
	var wg sync.WaitGroup
	for n, m := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for range 150 {
				number := 1 + random.IntN(max(len(m.uids), 1))
				message := testMessage(random.IntN(1000))
				command := []string{
					fmt.Sprintf("STORE %d +FLAGS (\\Flagged k%d)", number, random.IntN(5)),
					fmt.Sprintf("STORE %d -FLAGS (\\Seen)", number),
					fmt.Sprintf("UID STORE %d:* FLAGS (\\Deleted)", random.IntN(200)+1),
					fmt.Sprintf("FETCH %d BODY[]", number),
					fmt.Sprintf("COPY %d %s", number, folders[random.IntN(2)]),
					fmt.Sprintf("MOVE %d %s", number, folders[(n+1)%2]),
					fmt.Sprintf("APPEND %s (\\Seen) {%d+}\r\n%s", folders[random.IntN(2)], len(message), message),
					"EXPUNGE", "NOOP", "UID FETCH 1:* FLAGS", "SEARCH UNSEEN",
				}[random.IntN(11)]
				untagged, answer := m.c.do(command)
				if err := m.take(untagged); err != nil {
					t.Errorf("client %d, %.50s: %v", n, command, err)
					return
				}
				if strings.HasPrefix(answer, "BAD") || strings.Contains(answer, "SERVERBUG") {
					t.Errorf("client %d, %.50s: %s", n, command, answer)
				}
				w.changes.changed("")
				w.changes.changed(".Other")
			}
		}()
	}
	wg.Wait()
	for n, m := range clients {
		for _, command := range []string{"NOOP", "UID FETCH 1:* (UID)"} {
			if err := m.take(m.c.ok(command)); err != nil {
				t.Fatalf("client %d: %v", n, err)
			}
		}
		if want := clients[n%2].uids; fmt.Sprint(m.uids) != fmt.Sprint(want) {
			t.Errorf("client %d sees %v, client %d %v", n, m.uids, n%2, want)
		}
	}
	if log := w.log.String(); strings.Contains(log, "ERROR") {
		t.Error(log)
	}
}
