package adminapi

import (
	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/fsck"
	"mailraft/raftstore"
)

// Check implements adminpb.AdminServer.
func (s *Server) Check(_ *adminpb.Empty, stream grpc.ServerStreamingServer[adminpb.CheckReply]) error {
	return sendProblems(stream, func(send func(*adminpb.CheckReply)) error {
		return fsck.Check(s.Store, func(p fsck.Problem) {
			send(&adminpb.CheckReply{Group: p.Group, Where: p.Where, Problem: p.What})
		})
	})
}

// Compare implements adminpb.AdminServer.
func (s *Server) Compare(_ *adminpb.Empty, stream grpc.ServerStreamingServer[adminpb.CheckReply]) error {
	return sendProblems(stream, func(send func(*adminpb.CheckReply)) error {
		return s.Store.Compare(stream.Context(), func(p raftstore.Problem) {
			send(&adminpb.CheckReply{Group: p.Group, Problem: p.What})
		})
	})
}

// sendProblems sends what find finds, which goes on when that fails.
func sendProblems(stream grpc.ServerStreamingServer[adminpb.CheckReply], find func(send func(*adminpb.CheckReply)) error) error {
	var failed error
	err := find(func(reply *adminpb.CheckReply) {
		if failed == nil {
			failed = stream.Send(reply)
		}
	})
	if err != nil {
		return refusal(err)
	}
	return failed
}
