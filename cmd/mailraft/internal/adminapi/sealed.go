package adminapi

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// pieceSize is how much of a file goes in one message.
const pieceSize = 256 << 10

// ReadSealed implements adminpb.AdminServer.
func (s *Server) ReadSealed(req *adminpb.ReadSealedRequest, stream grpc.ServerStreamingServer[adminpb.Piece]) error {
	view, in, err := s.walk(stream.Context(), req.Path)
	if errors.Is(err, syscall.ENOENT) {
		return status.Errorf(codes.NotFound, "%s: nothing is stored there (what lies in tmp/ is not stored yet)", req.Path)
	}
	if err != nil {
		return refusal(err)
	}
	if !in.IsRegular() {
		return status.Errorf(codes.InvalidArgument, "%s is not a file", req.Path)
	}
	if in.SealedSize == 0 {
		return nil
	}
	content, err := view.OpenContent(in)
	if err != nil {
		return refusal(err)
	}
	defer content.Close()
	r := io.NewSectionReader(content, 0, content.Size())
	for {
		b := make([]byte, pieceSize)
		n, err := io.ReadFull(r, b)
		if n > 0 {
			if err := stream.Send(&adminpb.Piece{Data: b[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return refusal(err)
		}
	}
}

// walk finds the inode of a path below the mount. Symbolic links are not followed. Errors: ENOENT, ENOTDIR.
func (s *Server) walk(ctx context.Context, name string) (tree.Reader, *tree.Inode, error) {
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	if len(parts) < 2 {
		return nil, nil, status.Errorf(codes.InvalidArgument, "%s is not a file", name)
	}
	if err := s.current(ctx); err != nil {
		return nil, nil, err
	}
	a, err := s.account(parts[0], parts[1])
	if err != nil {
		return nil, nil, err
	}
	number := tree.Account(a.Number)
	if err != nil {
		return nil, nil, err
	}
	view, err := s.Store.Home(number).ReadIndex(ctx)
	if err != nil {
		return nil, nil, err
	}
	ino := tree.RootIno(number)
	for _, part := range parts[2:] {
		entry, err := view.Lookup(ino, part)
		if err != nil {
			return nil, nil, err
		}
		ino = entry.Ino
	}
	in, err := view.Inode(ino)
	return view, in, err
}

func (s *Server) account(domain, local string) (*raftpb.Account, error) {
	return s.Store.Directory().FindAccount(local, domain)
}
