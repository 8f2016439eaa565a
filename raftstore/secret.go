package raftstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"syscall"

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
