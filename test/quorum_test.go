package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailraft/test/client"
	"mailraft/test/node"
)

// TestAShardWithoutAQuorum kills two of the three nodes that have a shard, while mail comes in by SMTP and is moved from new to cur on the
// mounts. That shard's mailboxes fail, temporarily and in time; the other shards keep their rates. When one of the two is back, so is all.
func TestAShardWithoutAQuorum(t *testing.T) {
	nodes := node.NewNetwork(t).Cluster(5, node.Expecting("message not stored"))
	loses, dead, alive := whichToKill(t, nodes) // all mail comes in at one node, so that it shares what there is to share
	loads := map[int]*load{}
	for shard, a := range oneInEachShard(t, alive, 4) {
		loads[shard] = &load{shard: shard, account: a, on: alive}
	}
	var stop atomic.Bool
	var clients sync.WaitGroup
	for _, l := range loads {
		clients.Go(func() { l.send(&stop) })
		clients.Go(func() { l.file(&stop) })
	}
	leaders := leadersOf(alive)
	const window = 5 * time.Second
	<-time.After(time.Second) // the connections are made
	before := count(loads, window)
	for _, n := range dead {
		n.Kill()
	}
	killed := time.Now()
	atOnce := count(loads, 3*time.Second) // in which shards that lost their leader get one
	after := count(loads, window)
	dead[0].Start()
	begun := time.Now()
	back := loads[loses].counts()
	alive.Eventually("mail of the shard that has its quorum again is taken and filed", func() bool {
		now := loads[loses].counts()
		return now.sent > back.sent && now.filed > back.filed
	})
	t.Logf("shard %d took mail %v after it had its quorum again", loses, time.Since(begun))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("shard %d took no mail for %v after it had its quorum again", loses, took)
	}
	stop.Store(true)
	clients.Wait()

	var accounts []node.Account
	for shard, l := range loads {
		accounts = append(accounts, l.account)
		was, is := before[shard].in(window), after[shard].in(window)
		t.Logf("shard %d: %v; when shard %d lost its quorum %v; 3s later %v; %d failures, the longest took %v",
			shard, was, loses, atOnce[shard].in(3*time.Second), is, len(l.failures), l.longest())
		l.inspect(t, shard == loses, killed, begun)
		if shard == loses {
			if is.sent+is.filed > 0 {
				t.Errorf("shard %d has no quorum, and took %v", shard, is)
			}
			continue
		}
		meanwhile := atOnce[shard].in(3 * time.Second)
		kept := leaders[shard] != dead[0].Name && leaders[shard] != dead[1].Name
		if was.drops(is) || kept && was.drops(meanwhile) || meanwhile.sent == 0 || meanwhile.filed == 0 {
			t.Errorf("shard %d, led by %s, kept its quorum and not its rate", shard, leaders[shard])
		}
	}
	dead[1].Start()
	alive.Eventually("all vote", func() bool { return node.Voting(alive) == 3 })
	sameEverywhere(t, nodes, accounts)
	compared(t, alive)
}

// whichToKill finds two nodes without which one shard has no quorum, and all others, and the directory, have.
func whichToKill(t *testing.T, nodes []*node.Node) (shard int, dead []*node.Node, alive *node.Node) {
	t.Helper()
	var on map[int][]string
	nodes[0].Eventually("each node has its share of the shards, and a vote in the directory", func() bool {
		on = votersOf(nodes[0])
		shares := map[string]int{}
		for _, voters := range on {
			for _, v := range voters {
				shares[v]++
			}
		}
		for _, n := range nodes {
			if shares[n.Name] < 3 { // two of the shards, and the directory
				return false
			}
		}
		return len(on[0]) == len(nodes)
	})
	for i, a := range nodes {
		for _, b := range nodes[i+1:] {
			var lose []int
			for shard, voters := range on {
				if shard > 0 && slices.Contains(voters, a.Name) && slices.Contains(voters, b.Name) {
					lose = append(lose, shard)
				}
			}
			if len(lose) == 1 {
				alive := slices.IndexFunc(nodes, func(n *node.Node) bool { return n != a && n != b })
				return lose[0], []*node.Node{a, b}, nodes[alive]
			}
		}
	}
	t.Fatalf("no two nodes share just one shard: %v", on)
	return
}

// votersOf are the nodes that vote in each shard and have caught up, and in the directory, which is number 0.
func votersOf(n *node.Node) map[int][]string {
	on := map[int][]string{}
	for _, sh := range n.Status().Shards {
		for _, r := range sh.Replicas {
			if r.Voter && !r.Joining {
				on[sh.Shard] = append(on[sh.Shard], r.Node)
			}
		}
	}
	return on
}

// load is mail for one account: a client sends it, and another files messages in the account's home.
type load struct {
	shard   int
	account node.Account
	on      *node.Node

	sent, filed atomic.Int64
	mu          sync.Mutex // held for an append
	failures    []failure
}

// failure is of a delivery or a rename.
type failure struct {
	begun time.Time
	took  time.Duration
	what  string
	right bool // the right answer of a shard without a quorum
}

func (l *load) failed(begun time.Time, right bool, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, failure{begun, time.Since(begun), what, right})
}

// A client whose mail is not taken waits before it tries again, or it would only measure how fast it is refused.
const pause = 50 * time.Millisecond

// send delivers one message after the other by SMTP.
func (l *load) send(stop *atomic.Bool) {
	var link *client.SMTP
	defer func() {
		if link != nil {
			link.Quit()
		}
	}()
	for i := 0; !stop.Load(); i++ {
		begun := time.Now()
		var answers []client.Reply
		var err error
		if link == nil {
			link, err = client.DialSMTP(l.on.SMTP)
		}
		if err == nil {
			answers, _, err = link.Deliver("sender@example.net", fmt.Appendf(nil, "Subject: %d\r\n\r\nText.\r\n", i), l.account.Address)
		}
		switch {
		case err != nil:
			l.failed(begun, false, err.Error())
			link = nil
			time.Sleep(pause)
		case len(answers) == 1 && answers[0].OK():
			l.sent.Add(1)
		default:
			l.failed(begun, len(answers) == 1 && answers[0].Begins("451 4.3.0"), fmt.Sprint(answers))
			time.Sleep(pause)
		}
	}
}

// file moves a message from new to cur and back, by the mount that is for the shard.
func (l *load) file(stop *atomic.Bool) {
	local, domain, _ := strings.Cut(l.account.Address, "@")
	home := filepath.Join(l.on.Run, "shards", strconv.Itoa(l.shard), domain, local)
	from, to := filepath.Join(home, "new", "1.filed"), filepath.Join(home, "cur", "1.filed:2,S")
	if err := deliverTo(home, "1.filed"); err != nil {
		l.failed(time.Now(), false, err.Error())
		return
	}
	unsure := false // whether the last rename, which failed, was done
	for !stop.Load() {
		begun := time.Now()
		err := os.Rename(from, to)
		if err == nil || unsure && errors.Is(err, syscall.ENOENT) {
			l.filed.Add(1)
			from, to, unsure = to, from, false
			continue
		}
		unsure = true
		l.failed(begun, errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ETIMEDOUT), err.Error())
		time.Sleep(pause)
	}
}

// counts are how many messages were sent and filed.
type counts struct{ sent, filed int64 }

func (l *load) counts() counts { return counts{l.sent.Load(), l.filed.Load()} }

// count is what each shard's load does within a time.
func count(loads map[int]*load, window time.Duration) map[int]counts {
	did := map[int]counts{}
	for shard, l := range loads {
		did[shard] = l.counts()
	}
	<-time.After(window)
	for shard, l := range loads {
		now := l.counts()
		did[shard] = counts{now.sent - did[shard].sent, now.filed - did[shard].filed}
	}
	return did
}

// rates are of messages sent and filed in a second.
type rates struct{ sent, filed float64 }

func (c counts) in(window time.Duration) rates {
	return rates{float64(c.sent) / window.Seconds(), float64(c.filed) / window.Seconds()}
}

func (r rates) String() string {
	return fmt.Sprintf("%.0f deliveries/s and %.0f renames/s", r.sent, r.filed)
}

// drops tells whether one of them is under 0.8 of what it was.
func (r rates) drops(to rates) bool { return to.sent < 0.8*r.sent || to.filed < 0.8*r.filed }

func (l *load) longest() (longest time.Duration) {
	for _, f := range l.failures {
		longest = max(longest, f.took)
	}
	return longest
}

// inspect looks at the failures: a shard that kept its quorum has none; one that lost it, between two times, answers as it should, and at once
// when it has been without for three seconds.
func (l *load) inspect(t *testing.T, lost bool, from, to time.Time) {
	if lost && len(l.failures) == 0 {
		t.Errorf("nothing failed in shard %d, which had no quorum", l.shard)
	}
	for _, f := range l.failures {
		switch since := f.begun.Sub(from); {
		case !lost:
			t.Errorf("shard %d, which kept its quorum, %v after another lost it: %s", l.shard, since, f.what)
		case f.begun.Add(f.took).Before(from) || !f.right:
			t.Errorf("shard %d, %v after it lost its quorum: %s", l.shard, since, f.what)
		case f.took > 10*time.Second, since > 4*time.Second && f.begun.Before(to) && f.took > time.Second:
			t.Errorf("shard %d, %v after it lost its quorum: took %v: %s", l.shard, since, f.took, f.what)
		}
	}
}
