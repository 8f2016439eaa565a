package directory

import (
	"bytes"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"mailraft/raftstore/raftpb"
)

// putShard makes or replaces a shard's record: EAGAIN when it has changed since it was read.
func (d *Directory) putShard(b *pebble.Batch, s *raftpb.PutShard) error {
	if s.Id == 0 {
		return syscall.EINVAL
	}
	k := key(keyShard, s.Id, "")
	if err := replaceable(b, k, new(raftpb.PutShard), s.Version); err != nil {
		return err
	}
	s.Version++
	d.events = append(d.events, Event{Cluster: true})
	return put(b, k, s)
}

// putNode makes or replaces a node's record: EAGAIN when it has changed since it was read.
func (d *Directory) putNode(b *pebble.Batch, n *raftpb.PutNode) error {
	if n.GetId() == "" || strings.ContainsAny(n.Id, "/\x00") {
		return syscall.EINVAL
	}
	k := nameKey(keyNode, n.Id)
	if err := replaceable(b, k, new(raftpb.PutNode), n.Version); err != nil {
		return err
	}
	n.Version++
	d.events = append(d.events, Event{Cluster: true})
	return put(b, k, n)
}

// putCluster gives the cluster its name and authority: EEXIST when it has them.
func (d *Directory) putCluster(b *pebble.Batch, c *raftpb.PutCluster) error {
	if err := absent(b, []byte{keyCluster}); err != nil {
		return err
	}
	d.events = append(d.events, Event{Cluster: true})
	return put(b, []byte{keyCluster}, c)
}

// raiseVersion notes which commands every node can apply.
func (d *Directory) raiseVersion(b *pebble.Batch, v *raftpb.RaiseVersion) error {
	old, err := record(b, []byte{keyVersion}, new(raftpb.RaiseVersion))
	if err != nil && err != syscall.ENOENT {
		return err
	}
	if v.Version <= old.GetVersion() {
		return nil
	}
	d.events = append(d.events, Event{Cluster: true})
	return put(b, []byte{keyVersion}, v)
}

// putSecret keeps the first: EEXIST.
func putSecret(b *pebble.Batch, s *raftpb.PutSecret) error {
	if len(s.Value) != 32 {
		return syscall.EINVAL
	}
	if err := absent(b, []byte{keySecret}); err != nil {
		return err
	}
	return put(b, []byte{keySecret}, s)
}

// maxFailures is how many notes of failed logins are kept: a storm of them must not fill the directory.
const maxFailures = 4096

// noteFailures keeps a note until it is over, and forgets those that are: ENOSPC.
func noteFailures(b *pebble.Batch, f *raftpb.NoteFailures, now int64) error {
	if len(f.Key) != 16 || f.Until <= now {
		return syscall.EINVAL
	}
	k := nameKey(keyFailures, string(f.Key))
	left := 0
	var over [][]byte
	err := scan(b, []byte{keyFailures}, []byte{keyFailures + 1}, func(other, v []byte) (bool, error) {
		old := new(raftpb.NoteFailures)
		if err := decode(v, old); err != nil {
			return false, err
		}
		if old.Until <= now {
			over = append(over, bytes.Clone(other))
			return true, nil
		}
		if !bytes.Equal(other, k) {
			left++
		}
		return true, nil
	})
	if err == nil && left >= maxFailures {
		err = syscall.ENOSPC
	}
	if err != nil {
		return err
	}
	for _, k := range over {
		b.Delete(k, nil)
	}
	return put(b, k, f)
}

// addToken adds a token, and forgets those that have expired: EEXIST.
func (d *Directory) addToken(b *pebble.Batch, t *raftpb.AddToken, now int64) error {
	if len(t.Id) == 0 || len(t.Hash) != 32 {
		return syscall.EINVAL
	}
	k := nameKey(keyToken, string(t.Id))
	if err := absent(b, k); err != nil {
		return err
	}
	err := scan(b, []byte{keyToken}, []byte{keyToken + 1}, func(k, v []byte) (bool, error) {
		old := new(raftpb.AddToken)
		err := decode(v, old)
		if err == nil && old.Expires <= now {
			err = b.Delete(append([]byte(nil), k...), nil)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return put(b, k, t)
}

// useToken takes the token and makes the node's record, or makes it anew when a node of the name was there and was removed: ENOENT,
// ETIME, EEXIST, and EPROTO for a program that is too old.
func (d *Directory) useToken(b *pebble.Batch, u *raftpb.UseToken, now int64) error {
	k := nameKey(keyToken, string(u.Id))
	t, err := record(b, k, new(raftpb.AddToken))
	if err != nil {
		return err
	}
	if t.Expires <= now {
		return syscall.ETIME
	}
	old, err := record(b, nameKey(keyNode, u.GetNode().GetId()), new(raftpb.PutNode))
	if err != nil && err != syscall.ENOENT {
		return err
	}
	if err == nil && old.State != raftpb.NodeState_NODE_STATE_REMOVED {
		return syscall.EEXIST
	}
	if u.Node == nil {
		return syscall.EINVAL
	}
	version, err := record(b, []byte{keyVersion}, new(raftpb.RaiseVersion))
	if err != nil && err != syscall.ENOENT {
		return err
	}
	if u.Node.Commands < version.GetVersion() {
		return syscall.EPROTO
	}
	u.Node.Version, u.Node.Joined = old.Version, now
	if err := d.putNode(b, u.Node); err != nil {
		return err
	}
	return b.Delete(k, nil)
}
