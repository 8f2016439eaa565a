package remote

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/raftstore/remote/remotepb"
	"mailraft/raftstore/tree"
)

// Replica is a replica of a shard on this node.
type Replica interface {
	View() tree.Reader
	// Applied is the index of a command up to which View shows the shard, at least. It is raised before a command's event is told: who
	// subscribes and then asks for it is told of all behind it.
	Applied() uint64
	// WaitApplied returns nil once View shows all up to index, which may be that of an entry that is no command.
	WaitApplied(ctx context.Context, index uint64) error
	// ReadIndex returns nil once View shows everything that any node acknowledged before the call.
	ReadIndex(ctx context.Context) error
	// Told is the index up to which every event has been told to all who subscribe: ReadIndex and WaitApplied return when it is high enough.
	Told() uint64
	// Release is called when the replica is not used any more.
	Release()
	// Subscribe has fn called with every event behind what is applied, in order, after View shows it: fn must only take note.
	Subscribe(fn func(*tree.Event)) (cancel func())
	// Done is closed when the replica is one no more: nobody is told what changes then.
	Done() <-chan struct{}
}

// Server answers other nodes for the replicas of this one.
type Server struct {
	remotepb.UnimplementedReadsServer
	replica func(shard uint32) (Replica, error)
}

// NewServer makes the service. shards finds this node's replica of a shard; an error says that it has none, or none that may be asked. Each
// is released.
func NewServer(shards func(id uint32) (Replica, error)) *Server { return &Server{replica: shards} }

// Register adds the service to a gRPC server. Its streams last as long as their clients want: GracefulStop waits for them.
func (s *Server) Register(r grpc.ServiceRegistrar) { remotepb.RegisterReadsServer(r, s) }

// callLimit is how long a call waits, if its caller gives it no less.
const callLimit = 10 * time.Second

// at finds the replica and waits until it has applied what the answer must show. After nil, release is called when it has been read.
func (s *Server) at(ctx context.Context, at *remotepb.At) (v tree.Reader, applied uint64, release func(), err error) {
	r, err := s.replica(at.GetShard())
	if err != nil {
		return nil, 0, nil, status.Errorf(codes.FailedPrecondition, "no replica of shard %d: %v", at.GetShard(), err)
	}
	if applied = r.Applied(); applied < at.Index {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		if err := r.WaitApplied(ctx, at.Index); err != nil {
			r.Release()
			code := codes.Unavailable
			if ctx.Err() != nil {
				code = codes.DeadlineExceeded
			}
			return nil, 0, nil, status.Errorf(code, "shard %d has not applied %d: %v", at.Shard, at.Index, err)
		}
		applied = r.Applied()
	}
	return r.View(), applied, r.Release, nil
}

// said are the errors by which a tree says what it holds.
func said(err error) (errno syscall.Errno, ok bool) {
	for _, e := range []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ENODATA, syscall.ESTALE} {
		if err == e || e == syscall.ESTALE && errors.Is(err, e) {
			return e, true
		}
	}
	return 0, false
}

// unread is that the tree could not be read.
func unread(err error) error { return status.Error(codes.DataLoss, err.Error()) }

// answer makes the reply of a read.
func answer(applied uint64, record []byte, err error) (*remotepb.Answer, error) {
	if errno, ok := said(err); ok {
		return &remotepb.Answer{Errno: uint32(errno), Applied: applied}, nil
	}
	if err != nil {
		return nil, unread(err)
	}
	return &remotepb.Answer{Applied: applied, Record: record}, nil
}

// Account implements remotepb.ReadsServer.
func (s *Server) Account(ctx context.Context, req *remotepb.AccountRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := v.Account(tree.Account(req.Account))
	var b []byte
	if err == nil {
		b = r.AppendRecord(nil)
	}
	return answer(applied, b, err)
}

// Inode implements remotepb.ReadsServer.
func (s *Server) Inode(ctx context.Context, req *remotepb.InodeRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	in, err := v.Inode(tree.Ino(req.Inode))
	var b []byte
	if err == nil {
		b = in.AppendRecord(nil)
	}
	return answer(applied, b, err)
}

// Lookup implements remotepb.ReadsServer.
func (s *Server) Lookup(ctx context.Context, req *remotepb.NameRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	de, err := v.Lookup(tree.Ino(req.Inode), string(req.Name))
	var b []byte
	if err == nil {
		b = de.AppendRecord(nil)
	}
	return answer(applied, b, err)
}

// Xattr implements remotepb.ReadsServer.
func (s *Server) Xattr(ctx context.Context, req *remotepb.NameRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	b, err := v.Xattr(tree.Ino(req.Inode), string(req.Name))
	return answer(applied, b, err)
}

// Xattrs implements remotepb.ReadsServer.
func (s *Server) Xattrs(ctx context.Context, req *remotepb.InodeRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	names, err := v.Xattrs(tree.Ino(req.Inode))
	a, err := answer(applied, nil, err)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		a.Names = append(a.Names, []byte(name))
	}
	return a, nil
}

// Path implements remotepb.ReadsServer.
func (s *Server) Path(ctx context.Context, req *remotepb.InodeRequest) (*remotepb.Answer, error) {
	v, applied, release, err := s.at(ctx, req.At)
	if err != nil {
		return nil, err
	}
	defer release()
	path, err := v.Path(tree.Ino(req.Inode))
	return answer(applied, []byte(path), err)
}

// Accounts implements remotepb.ReadsServer.
func (s *Server) Accounts(req *remotepb.At, stream grpc.ServerStreamingServer[remotepb.Numbers]) error {
	v, applied, release, err := s.at(stream.Context(), req)
	if err != nil {
		return err
	}
	defer release()
	// All of them first: a client that takes its time must not hold the store's iterator.
	lot := &remotepb.Numbers{Applied: applied}
	if err := v.Accounts(func(a tree.Account) bool { lot.Accounts = append(lot.Accounts, uint32(a)); return true }); err != nil {
		return unread(err)
	}
	for {
		n := min(len(lot.Accounts), partOctets/4)
		if err := stream.Send(&remotepb.Numbers{Applied: applied, Accounts: lot.Accounts[:n]}); err != nil {
			return err
		}
		if lot.Accounts = lot.Accounts[n:]; len(lot.Accounts) == 0 {
			return nil
		}
	}
}

// partOctets is about how long a message of a stream is.
const partOctets = 64 << 10

// FolderIndex implements remotepb.ReadsServer.
func (s *Server) FolderIndex(req *remotepb.FolderRequest, stream grpc.ServerStreamingServer[remotepb.FolderPart]) error {
	v, applied, release, err := s.at(stream.Context(), req.At)
	if err != nil {
		return err
	}
	defer release()
	x, err := v.FolderIndex(tree.Ino(req.Folder), tree.ModSeq(req.Since))
	if errno, ok := said(err); ok {
		return stream.Send(&remotepb.FolderPart{Errno: uint32(errno), Applied: applied})
	}
	if err != nil {
		return unread(err)
	}
	part := &remotepb.FolderPart{Applied: applied, Folder: x.Folder.AppendRecord(nil), Since: uint64(x.Since)}
	full := func() error {
		if len(part.Messages)+len(part.Vanished) < partOctets {
			return nil
		}
		err := stream.Send(part)
		part = &remotepb.FolderPart{Messages: make([]byte, 0, partOctets+1024)}
		return err
	}
	for i := range x.Messages {
		part.Messages = x.Messages[i].AppendRecord(part.Messages)
		if err := full(); err != nil {
			return err
		}
	}
	for _, gone := range x.Vanished {
		part.Vanished = gone.AppendRecord(part.Vanished)
		if err := full(); err != nil {
			return err
		}
	}
	return stream.Send(part)
}

// List implements remotepb.ReadsServer.
func (s *Server) List(stream grpc.BidiStreamingServer[remotepb.ListRequest, remotepb.ListPart]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	v, applied, release, err := s.at(stream.Context(), req.GetOpen().GetAt())
	if err != nil {
		return err
	}
	defer release()
	r, err := v.OpenDir(tree.Ino(req.Open.GetInode()))
	if errno, ok := said(err); ok {
		return stream.Send(&remotepb.ListPart{Errno: uint32(errno), Applied: applied})
	}
	if err != nil {
		return unread(err)
	}
	defer r.Close()
	for err == nil {
		if req.Seek {
			r.SeekAfter(string(req.After))
		}
		part := &remotepb.ListPart{Applied: applied}
		for !part.End && len(part.Entries) < partOctets {
			de, ok := r.Next()
			if !ok {
				if err := r.Err(); err != nil {
					return unread(err)
				}
				part.End = true
				break
			}
			part.Entries = de.AppendRecord(part.Entries)
		}
		if err := stream.Send(part); err != nil {
			return err
		}
		req, err = stream.Recv()
	}
	return ended(err)
}

// ended is nil when the client has said that it wants no more.
func ended(err error) error {
	if status.Code(err) == codes.Canceled || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Content implements remotepb.ReadsServer.
func (s *Server) Content(stream grpc.BidiStreamingServer[remotepb.ContentRequest, remotepb.Piece]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	open := req.GetOpen()
	v, applied, release, err := s.at(stream.Context(), open.GetAt())
	if err != nil {
		return err
	}
	defer release()
	in := &tree.Inode{Ino: tree.Ino(open.Inode), Content: open.Content}
	in.SealedSize = open.SealedSize
	r, err := v.OpenContent(in)
	if errno, ok := said(err); ok {
		return stream.Send(&remotepb.Piece{Errno: uint32(errno), Applied: applied})
	}
	if err != nil {
		return unread(err)
	}
	defer r.Close()
	if err := stream.Send(&remotepb.Piece{Applied: applied}); err != nil {
		return err
	}
	for {
		if req, err = stream.Recv(); err != nil {
			return ended(err)
		}
		if size := uint64(r.Size()); req.Offset > size || req.Length > size-req.Offset {
			return status.Error(codes.InvalidArgument, "beyond the content's end")
		}
		for off, end := req.Offset, req.Offset+req.Length; off < end; {
			b := make([]byte, min(end-off, pieceOctets))
			n, err := r.ReadAt(b, int64(off))
			if n < len(b) {
				return unread(err)
			}
			if err := stream.Send(&remotepb.Piece{Data: b}); err != nil {
				return err
			}
			off += uint64(n)
		}
	}
}

// pieceOctets is how much of a content goes in one message.
const pieceOctets = 256 << 10
