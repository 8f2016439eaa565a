package raftstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"syscall"
	"time"

	"golang.org/x/crypto/hkdf"

	"mailraft/raftstore/raftpb"
)

// Secret is 32 octets for one purpose: the same on all nodes, always, and known to nobody else. The caller wipes them.
func (d *Directory) Secret(ctx context.Context, purpose string) ([]byte, error) {
	s, err := d.state.Secret()
	if err == syscall.ENOENT {
		s, err = d.makeSecret(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer clear(s.Value)
	derived := make([]byte, sha256.Size)
	_, err = io.ReadFull(hkdf.New(sha256.New, s.Value, nil, []byte(purpose)), derived)
	return derived, err
}

// makeSecret makes what secrets are derived of, unless another node has.
func (d *Directory) makeSecret(ctx context.Context) (*raftpb.PutSecret, error) {
	value := make([]byte, sha256.Size)
	rand.Read(value) // never fails
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_PutSecret{PutSecret: &raftpb.PutSecret{Value: value}}})
	if err != nil && err != syscall.EEXIST {
		return nil, err
	}
	return d.state.Secret()
}

// NoteFailures tells all nodes how many logins have failed of what the key stands for, 16 octets, until a time. Errors: syscall.ENOSPC
// when so much is noted that no more may.
func (d *Directory) NoteFailures(ctx context.Context, key []byte, failures uint32, until time.Time) error {
	_, err := d.change(ctx, &raftpb.Command{Op: &raftpb.Command_NoteFailures{NoteFailures: &raftpb.NoteFailures{
		Key: key, Failures: failures, Until: until.UnixNano(),
	}}})
	return err
}

// Failures answers what was told of them, by any node: 0 when nothing was, or it is over.
func (d *Directory) Failures(key []byte) (uint32, error) {
	f, err := d.state.Failures(key)
	if err == syscall.ENOENT || err == nil && f.Until <= time.Now().UnixNano() {
		return 0, nil
	}
	return f.GetFailures(), err
}
