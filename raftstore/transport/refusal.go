package transport

import (
	"errors"
	"maps"
	"sync"
	"time"
)

// Reason is why a connection was refused.
type Reason string

// The reasons.
const (
	NoCertificate   Reason = "no certificate"
	Stranger        Reason = "certificate is not the cluster's"
	Expired         Reason = "certificate has expired"
	Removed         Reason = "node was removed"
	WrongKey        Reason = "node has another key"
	WrongNode       Reason = "another node answers"
	UnknownProtocol Reason = "unknown protocol"
	Handshake       Reason = "handshake failed"
	Busy            Reason = "too many at once"
)

type refusal struct {
	reason Reason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refused(reason Reason, err error) error { return &refusal{reason, err} }

// refusals counts them, and keeps a scanner from filling the log.
type refusals struct {
	mu     sync.Mutex // held for a few assignments
	counts map[Reason]uint64
	second int64
	logged int
}

const maxLogged = 10 // a second

// refuse counts and logs that a connection was refused.
func (t *Transport) refuse(remote string, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return
	}
	q := &t.refusals
	q.mu.Lock()
	q.counts[r.reason]++
	if now := time.Now().Unix(); now != q.second {
		q.second, q.logged = now, 0
	}
	q.logged++
	loud := q.logged <= maxLogged
	q.mu.Unlock()
	if loud {
		t.log.Warn("refused a connection between nodes", "remote", remote, "reason", string(r.reason), "error", err)
	}
}

// Refusals counts the connections that were refused since the start, by reason.
func (t *Transport) Refusals() map[Reason]uint64 {
	t.refusals.mu.Lock()
	defer t.refusals.mu.Unlock()
	return maps.Clone(t.refusals.counts)
}
