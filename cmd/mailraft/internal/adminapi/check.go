package adminapi

import (
	"google.golang.org/grpc"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/fsck"
	"mailraft/raftstore"
)

// Check implements adminpb.AdminServer.
func (s *Server) Check(_ *adminpb.Empty, stream grpc.ServerStreamingServer[adminpb.CheckReply]) error {
	var failed error
	send := func(reply *adminpb.CheckReply) {
		if failed == nil {
			failed = stream.Send(reply)
		}
	}
	err := fsck.Check(s.Store, func(p fsck.Problem) {
		send(&adminpb.CheckReply{Group: p.Group, Where: p.Where, Problem: p.What})
	})
	if err != nil {
		return refusal(err)
	}
	return failed
}

// Compare implements adminpb.AdminServer.
func (s *Server) Compare(_ *adminpb.Empty, stream grpc.ServerStreamingServer[adminpb.CheckReply]) error {
	var failed error
	err := s.Store.Compare(stream.Context(), func(p raftstore.Problem) {
		if failed == nil {
			failed = stream.Send(&adminpb.CheckReply{Group: p.Group, Problem: p.What})
		}
	})
	if err != nil {
		return refusal(err)
	}
	return failed
}
