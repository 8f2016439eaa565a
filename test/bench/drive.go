package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load is something for the driving process to do, and result what it says of it.
type load struct {
	Kind    string // "deliver", "read", "lmtp", "smtp", "imap", "pop3", "logins", "guesses", "fetches"
	Workers int
	AsRoot  bool    // not as the mail user
	Seconds float64 // how long; 0: each of Files, or Count, once
	Count   int
	Rate    float64 // a second, for Seconds; 0: as fast as it goes
	Size    int     // octets of a message

	Homes  []string // "deliver": Maildirs
	Rename bool     // "deliver": move by rename instead of link and unlink
	NoSync bool     // "deliver": leave out the fsync
	Files  []string // "read"
	Tag    string   // makes names unique

	Address    string   // "lmtp", "smtp", "imap", "pop3": host:port
	Recipients []string // "lmtp", "smtp"
	User, Pass string   // "imap", "pop3", "fetches"
	Users      []string // "logins"
	Proof      bool     // "logins": by SCRAM-SHA-256
}

type result struct {
	Done    int
	Elapsed float64            // seconds
	Times   map[string]float64 // seconds, of the steps of a session; p50, p99: of what was done
	Items   map[string]float64 // and what they brought
	Error   string
}

func (r result) rate() float64 { return float64(r.Done) / r.Elapsed }

const driveArg = "drive"

// mailUser is whom the mail belongs to and the loads run as: the daemon's default.
const mailUser = 5000

// drive has the load driven by a process of its own.
func (b *bench) drive(l load) (result, error) {
	in, err := json.Marshal(l)
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(b.ctx, "/proc/self/exe", driveArg)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=400")
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if !l.AsRoot {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mailUser, Gid: mailUser}}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return result{}, err
	}
	go func() {
		stdin.Write(in)
		stdin.Close()
	}()
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("driver: %w", err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, fmt.Errorf("driver said %q: %w", out, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s: %s", l.Kind, r.Error)
	}
	return r, nil
}

// drive is the driving process.
func drive(in io.Reader, out io.Writer) error {
	var l load
	if err := json.NewDecoder(in).Decode(&l); err != nil {
		return err
	}
	var r result
	var err error
	switch l.Kind {
	case "deliver":
		r, err = l.each(l.delivery())
	case "read":
		r, err = l.each(l.reading())
	case "lmtp", "smtp":
		r, err = l.mail()
	case "imap":
		r, err = l.imap()
	case "bodies":
		r, err = l.bodies()
	case "logins":
		r, err = l.logins()
	case "guesses":
		r, err = l.guesses()
	case "fetches":
		r, err = l.fetches()
	case "pop3":
		r, err = l.pop3()
	default:
		err = fmt.Errorf("no such load")
	}
	if err != nil {
		r.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(r)
}

// each calls do with 0, 1, 2, ... from some workers at once, for the time or the count given. At a rate, what comes late because those
// before it took long is timed from when it was due.
func (l *load) each(do func(worker, i int) error) (result, error) {
	var next, done atomic.Int64
	var failure atomic.Pointer[error]
	count := int64(l.Count)
	if l.Seconds == 0 && count == 0 {
		count = int64(len(l.Files))
	}
	if l.Rate > 0 {
		count = int64(l.Rate * l.Seconds)
	}
	took := make([][]float64, l.Workers)
	start := time.Now()
	deadline := start.Add(time.Duration(l.Seconds * float64(time.Second)))
	var wg sync.WaitGroup
	for w := range l.Workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for failure.Load() == nil {
				i := next.Add(1) - 1
				if count > 0 && i >= count || count == 0 && time.Now().After(deadline) {
					return
				}
				begun := time.Now()
				if l.Rate > 0 {
					begun = start.Add(time.Duration(float64(i) / l.Rate * float64(time.Second)))
					time.Sleep(time.Until(begun))
				}
				if err := do(w, int(i)); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				took[w] = append(took[w], time.Since(begun).Seconds())
				done.Add(1)
			}
		}()
	}
	wg.Wait()
	r := result{Done: int(done.Load()), Elapsed: time.Since(start).Seconds()}
	r.Times = map[string]float64{"p50": quantile(0.5, took...), "p99": quantile(0.99, took...)}
	if err := failure.Load(); err != nil {
		return r, *err
	}
	return r, nil
}
