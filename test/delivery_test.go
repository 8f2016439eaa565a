package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/node"
)

// anyCertificate is for nodes that have made their own.
var anyCertificate = &tls.Config{InsecureSkipVerify: true}

// TestReadYourDelivery delivers on one node, by the mount, SMTP, LMTP or IMAP, and looks on another at once, by the mount, IMAP or POP3.
// Nothing that was acknowledged may be missing, nor anything be there that was acknowledged to be removed, but for a hit by name: how long
// one is possible is measured. The accounts move from shard to shard meanwhile.
func TestReadYourDelivery(t *testing.T) {
	t.Parallel()
	readYourDelivery(t, 3, numberOf(t, "MAILRAFT_TEST_TRIALS", 400))
}

// TestReadYourDeliveryElsewhere is the same with five nodes: each shard is read and written on two that have no copy of it.
func TestReadYourDeliveryElsewhere(t *testing.T) {
	t.Parallel()
	readYourDelivery(t, 5, numberOf(t, "MAILRAFT_TEST_TRIALS", 400))
}

func readYourDelivery(t *testing.T, count, number int) {
	nodes := node.NewNetwork(t).Cluster(count)
	seed, trials := seedOf(t), int64(number)
	var all sync.WaitGroup
	var next atomic.Int64
	var readers []*reader
	for i := range 4 {
		r := &reader{
			nodes: nodes, account: nodes[i%count].AddAccount(fmt.Sprintf("user%d@cluster.example", i)),
			rng: rand.New(rand.NewPCG(seed, uint64(i))), counts: map[string]int{},
			smtp: make([]*client.SMTP, count), lmtp: make([]*client.SMTP, count), imap: make([]*client.IMAP, count),
		}
		readers = append(readers, r)
		all.Go(func() {
			defer r.end()
			for n := next.Add(1); n <= trials && !t.Failed(); n = next.Add(1) {
				if err := r.trial(n); err != nil {
					t.Errorf("trial %d: %v", n, err)
				}
			}
		})
	}
	var accounts []node.Account
	for _, r := range readers {
		accounts = append(accounts, r.account)
	}
	moving := moveAround(nodes, accounts)
	all.Wait()
	moves, err := moving.end()
	if err != nil {
		t.Error(err)
	}
	var hit []time.Duration
	counts := map[string]int{}
	for _, r := range readers {
		hit = append(hit, r.hit...)
		for what, n := range r.counts {
			counts[what] += n
		}
	}
	t.Log("trials:", counts, "while the accounts moved to another shard", moves, "times")
	t.Log("for so long after its removal was acknowledged, a name was found on another node by a stat:", spread(hit))
	sameEverywhere(t, nodes, accounts)
}

// spread is how durations are spread.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[int(share*float64(len(all)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d: p50 %v, p90 %v, p99 %v, most %v", len(all), at(0.5), at(0.9), at(0.99), at(1))
}

// reader delivers to an account of its own, and reads it.
type reader struct {
	nodes      []*node.Node
	account    node.Account
	rng        *rand.Rand
	smtp, lmtp []*client.SMTP // by node, once used
	imap       []*client.IMAP
	there      int // messages in the INBOX
	hit        []time.Duration
	counts     map[string]int
}

const mostThere = 20 // messages, before one is removed for each that comes

func (r *reader) trial(number int64) error {
	from, to := r.rng.IntN(len(r.nodes)), r.rng.IntN(len(r.nodes))
	how, name, err := r.deliver(from, number)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", how, r.nodes[from].Name, err)
	}
	r.there++
	look, err := r.look(to, name)
	if err != nil {
		return fmt.Errorf("delivered by %s on %s, and %s on %s: %w", how, r.nodes[from].Name, look, r.nodes[to].Name, err)
	}
	r.counts[how+", "+look]++
	if r.there < mostThere {
		return nil
	}
	if err := r.remove(r.rng.IntN(len(r.nodes)), r.rng.IntN(len(r.nodes))); err != nil {
		return err
	}
	r.there--
	to = r.rng.IntN(len(r.nodes))
	if look, err = r.look(to, ""); err != nil {
		return fmt.Errorf("after a message was removed, %s on %s: %w", look, r.nodes[to].Name, err)
	}
	return nil
}

// deliver delivers a message. name is what it is called in new/, where that is known.
func (r *reader) deliver(on int, number int64) (how, name string, err error) {
	n, to := r.nodes[on], r.account.Address
	text := fmt.Appendf(nil, "Subject: trial %d\r\n\r\nText.\r\n", number)
	switch r.rng.IntN(6) {
	case 0:
		if r.smtp[on] == nil {
			if r.smtp[on], err = client.DialSMTP(n.SMTP); err != nil {
				return "SMTP", "", err
			}
		}
		return "SMTP", "", sendBy(r.smtp[on], text, to)
	case 1:
		if r.lmtp[on] == nil {
			if r.lmtp[on], err = client.DialLMTP(n.LMTP); err != nil {
				return "LMTP", "", err
			}
		}
		return "LMTP", "", sendBy(r.lmtp[on], text, to)
	case 2:
		c, err := r.session(on)
		if err == nil {
			err = c.Append("INBOX", "", text)
		}
		return "IMAP", "", err
	}
	// Somebody looks for it before it is there.
	name = fmt.Sprintf("%d.trial", number)
	if _, err := os.Stat(filepath.Join(homeOn(r.nodes[r.rng.IntN(len(r.nodes))], to), "new", name)); !errors.Is(err, fs.ErrNotExist) {
		return "mount", "", fmt.Errorf("before it is there: %w", err)
	}
	return "mount", name, deliverTo(homeOn(n, to), name)
}

func sendBy(c *client.SMTP, text []byte, to string) error {
	answers, refused, err := c.Deliver("sender@example.net", text, to)
	if err == nil && (len(answers) != 1 || !answers[0].OK()) {
		err = fmt.Errorf("answers %v, refused %v", answers, refused)
	}
	return err
}

// session is an IMAP session on a node.
func (r *reader) session(on int) (*client.IMAP, error) {
	if r.imap[on] != nil {
		return r.imap[on], nil
	}
	c, err := client.DialIMAP(r.nodes[on].IMAPS, anyCertificate)
	if err == nil {
		err = c.Login(r.account.Address, r.account.Password)
	}
	r.imap[on] = c
	return c, err
}

// look looks whether all messages are there, and one by its name if it is not empty. It does so in one of several ways.
func (r *reader) look(on int, name string) (how string, err error) {
	home := homeOn(r.nodes[on], r.account.Address)
	found := 0
	way := r.rng.IntN(10)
	switch {
	case way < 3 && name != "":
		_, err = os.Stat(filepath.Join(home, "new", name))
		return "stat", err
	case way < 6:
		how = "listing"
		var list []string
		list, err = r.list(on)
		found = len(list)
		if name != "" && !slices.Contains(list, filepath.Join(home, "new", name)) {
			err = errors.Join(err, errors.New("it is not listed"))
		}
	case way < 9:
		how = "IMAP"
		found, err = r.lookByIMAP(on)
	default:
		how = "POP3"
		found, err = r.lookByPOP3(on)
	}
	if err == nil && found != r.there {
		err = fmt.Errorf("%d messages instead of %d", found, r.there)
	}
	return how, err
}

// list lists the messages on a node's mount, by their paths.
func (r *reader) list(on int) (paths []string, err error) {
	for _, folder := range []string{"new", "cur"} {
		dir := filepath.Join(homeOn(r.nodes[on], r.account.Address), folder)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

func (r *reader) lookByIMAP(on int) (found int, err error) {
	c, err := r.session(on)
	if err != nil {
		return 0, err
	}
	found = -1
	lines, err := c.Command("%s", []string{"EXAMINE INBOX", "STATUS INBOX (MESSAGES)"}[r.rng.IntN(2)])
	for _, l := range lines {
		var n int
		if _, text, ok := strings.Cut(l.Text, "(MESSAGES "); ok {
			fmt.Sscan(strings.TrimSuffix(text, ")"), &found)
		} else if strings.HasSuffix(l.Text, " EXISTS") {
			if _, err := fmt.Sscanf(l.Text, "* %d EXISTS", &n); err == nil {
				found = n
			}
		}
	}
	return found, err
}

func (r *reader) lookByPOP3(on int) (found int, err error) {
	c, err := client.DialPOP3(r.nodes[on].POP3S, anyCertificate)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Login(r.account.Address, r.account.Password); err != nil {
		return 0, err
	}
	line, err := c.Command("STAT")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(line, "+OK %d", &found); err != nil {
		return 0, fmt.Errorf("STAT: %q: %w", line, err)
	}
	return found, c.Quit()
}

// remove removes a message on one node, and measures how long another still finds it by name.
func (r *reader) remove(on, other int) error {
	list, err := r.list(on)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%s lists nothing", r.nodes[on].Name)
	}
	path := list[r.rng.IntN(len(list))]
	elsewhere := r.nodes[other].Mount + strings.TrimPrefix(path, r.nodes[on].Mount)
	if _, err := os.Stat(elsewhere); err != nil { // which its kernel keeps
		return fmt.Errorf("%s is listed on %s, on %s it is not found: %w", path, r.nodes[on].Name, r.nodes[other].Name, err)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Microsecond) {
		_, err := os.Stat(elsewhere)
		took := time.Since(begun)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if on != other {
				r.hit = append(r.hit, took)
			}
			return nil
		case err != nil:
			return err
		case took > 10*time.Second || on == other:
			return fmt.Errorf("removed on %s, and found on %s after %v", r.nodes[on].Name, r.nodes[other].Name, took)
		}
	}
}

func (r *reader) end() {
	for i := range r.nodes {
		if r.smtp[i] != nil {
			r.smtp[i].Quit()
		}
		if r.lmtp[i] != nil {
			r.lmtp[i].Quit()
		}
		if r.imap[i] != nil {
			r.imap[i].Logout()
		}
	}
}
