package adminapi

import (
	"context"
	"errors"
	"io"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/backup"
	"mailraft/raftstore"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// backupPage is the octets of records in one reply: fewer than gRPC takes, though a record may be of 64 KiB.
const backupPage = 512 << 10

// Backup implements adminpb.AdminServer.
func (s *Server) Backup(stream grpc.BidiStreamingServer[adminpb.BackupRequest, adminpb.BackupReply]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	var only *raftpb.Account
	if first.Address != "" {
		if only, err = s.find(stream.Context(), first.Address); err != nil {
			return refusal(err)
		}
	}
	state, err := s.Store.Snapshot(stream.Context())
	if err != nil {
		return refusal(err)
	}
	defer state.Close()
	reply := &adminpb.BackupReply{End: true}
	accounts := map[uint32]*raftpb.Account{}
	for _, a := range state.Accounts {
		if only != nil && a.Number != only.Number {
			continue
		}
		text, err := proto.Marshal(a)
		if err != nil {
			return err
		}
		accounts[a.Number] = a
		reply.Accounts = append(reply.Accounts, text)
		if len(reply.Accounts) == 1000 {
			if err := stream.Send(&adminpb.BackupReply{Accounts: reply.Accounts}); err != nil {
				return err
			}
			reply.Accounts = nil
		}
	}
	for _, dom := range state.Domains {
		if only == nil || only.Domain == dom.Name {
			reply.Domains = append(reply.Domains, dom.Name)
		}
	}
	for _, al := range state.Aliases {
		if only == nil {
			reply.Aliases = append(reply.Aliases, &adminpb.Alias{Address: al.Address, Targets: al.Targets})
		}
	}
	if err := stream.Send(reply); err != nil {
		return err
	}
	s.Logger.Info("backup begins", "accounts", len(accounts))
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		a := accounts[req.Account]
		if a == nil {
			return status.Errorf(codes.InvalidArgument, "there is no account %d in this backup", req.Account)
		}
		if err := sendBackup(stream, state, a, req); err != nil {
			return refusal(err)
		}
	}
}

// sendBackup answers one request.
func sendBackup(stream grpc.BidiStreamingServer[adminpb.BackupRequest, adminpb.BackupReply], state *raftstore.Snapshot, a *raftpb.Account, req *adminpb.BackupRequest) error {
	shard := state.Shard(a)
	if shard == nil {
		return status.Errorf(codes.Unavailable, "there is no shard %d, where %s is to be", a.Shard, a.Address())
	}
	if req.Content != 0 {
		err := shard.Content(tree.Account(a.Number), req.Content, req.SealedSize, func(piece []byte) error {
			return stream.Send(&adminpb.BackupReply{Piece: piece})
		})
		if err != nil {
			return err
		}
		return stream.Send(&adminpb.BackupReply{End: true})
	}
	reply, octets := &adminpb.BackupReply{}, 0
	err := shard.Records(tree.Account(a.Number), func(key, value []byte) error {
		if octets > backupPage {
			if err := stream.Send(reply); err != nil {
				return err
			}
			reply, octets = &adminpb.BackupReply{}, 0
		}
		// The iterator's memory is used again.
		r := &adminpb.BackupRecord{Key: append([]byte(nil), key...), Value: append([]byte(nil), value...)}
		reply.Records = append(reply.Records, r)
		octets += len(key) + len(value) + 16
		return nil
	})
	if errors.Is(err, syscall.ENOENT) {
		return stream.Send(&adminpb.BackupReply{Gone: true, End: true})
	}
	if err != nil {
		return err
	}
	reply.End = true
	return stream.Send(reply)
}

// BackupSource is a state of the daemon's cluster, for package backup.
type BackupSource struct {
	stream grpc.BidiStreamingClient[adminpb.BackupRequest, adminpb.BackupReply]
	first  *adminpb.BackupRequest
}

// BackupSource begins to read the cluster, or one account. It is over when ctx is done.
func (c *Client) BackupSource(ctx context.Context, address string) (*BackupSource, error) {
	stream, err := c.AdminClient.Backup(ctx)
	return &BackupSource{stream, &adminpb.BackupRequest{Address: address}}, err
}

// ask sends a request and calls fn with each reply to it.
func (b *BackupSource) ask(req *adminpb.BackupRequest, fn func(*adminpb.BackupReply) error) error {
	err := b.stream.Send(req)
	for err == nil {
		var reply *adminpb.BackupReply
		if reply, err = b.stream.Recv(); err != nil {
			break
		}
		if err := fn(reply); err != nil || reply.End {
			return err
		}
	}
	if err == io.EOF { // of Send: Recv knows why
		_, err = b.stream.Recv()
	}
	return err
}

// Cluster implements backup.Source.
func (b *BackupSource) Cluster(context.Context) (domains []string, aliases []backup.Alias, accounts []*raftpb.Account, err error) {
	err = b.ask(b.first, func(r *adminpb.BackupReply) error {
		domains = append(domains, r.Domains...)
		for _, a := range r.Aliases {
			aliases = append(aliases, backup.Alias{Address: a.Address, Targets: a.Targets})
		}
		for _, text := range r.Accounts {
			a := new(raftpb.Account)
			if err := proto.Unmarshal(text, a); err != nil {
				return err
			}
			accounts = append(accounts, a)
		}
		return nil
	})
	return domains, aliases, accounts, err
}

// Records implements backup.Source.
func (b *BackupSource) Records(_ context.Context, account uint32, fn func(key, value []byte) error) error {
	return b.ask(&adminpb.BackupRequest{Account: account}, func(r *adminpb.BackupReply) error {
		if r.Gone {
			return syscall.ENOENT
		}
		for _, record := range r.Records {
			if err := fn(record.Key, record.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Content implements backup.Source.
func (b *BackupSource) Content(_ context.Context, account uint32, content, sealed uint64, fn func([]byte) error) error {
	return b.ask(&adminpb.BackupRequest{Account: account, Content: content, SealedSize: sealed}, func(r *adminpb.BackupReply) error {
		return fn(r.Piece)
	})
}
