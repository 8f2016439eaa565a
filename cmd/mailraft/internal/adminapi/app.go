package adminapi

import (
	"context"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
	"mailraft/cmd/mailraft/internal/passwords"
	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore/raftpb"
)

// Bounds of an account's app passwords: a login tries one after the other.
const (
	maxApps    = 64
	maxAppName = 100 // octets
)

// AddAppPassword implements adminpb.AdminServer.
func (s *Server) AddAppPassword(ctx context.Context, req *adminpb.AddAppPasswordRequest) (*adminpb.AppPasswordReply, error) {
	defer clear(req.Password)
	if err := checkApp(req); err != nil {
		return nil, err
	}
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	apps := appsOf(a)
	switch {
	case slices.ContainsFunc(apps, func(sl *raftpb.Slot) bool { return sl.Name == req.Name }):
		return nil, status.Errorf(codes.AlreadyExists, "%s has an app password %q", a.Address(), req.Name)
	case len(apps) >= maxApps:
		return nil, status.Errorf(codes.FailedPrecondition, "%s has %d app passwords already; remove one", a.Address(), len(apps))
	}
	id, _, err := s.unwrap(ctx, a, req.Password)
	if err != nil {
		return nil, refusal(err)
	}
	defer id.Wipe()
	text := passwords.Random()
	number := access.NextSlot(a)
	records, err := s.wrapApp(ctx, id, a, text, number)
	if err == nil {
		for _, r := range records {
			r.Name, r.Protocols, r.Created = req.Name, req.Protocols, time.Now().UnixNano()
		}
		err = s.replaceSlots(ctx, a, everySlot, records...)
	}
	if err != nil {
		clear(text)
		return nil, refusal(err)
	}
	s.Logger.Info("app password added", "account", a.Address(), "name", req.Name)
	return &adminpb.AppPasswordReply{AppPassword: text}, nil
}

// wrapApp is wrap of an app password, which needs no Argon2id.
func (s *Server) wrapApp(ctx context.Context, id seal.Identity, a *raftpb.Account, text []byte, number uint32) ([]*raftpb.Slot, error) {
	leave, err := s.Gate.Enter(ctx, "", slot.DefaultParams)
	if err != nil {
		return nil, err
	}
	defer leave()
	secret := passwords.Secret(text)
	defer clear(secret)
	wrapped, err := slot.Wrap(id, secret, slot.Params{}, slot.Binding{Account: uint64(a.Number), Slot: uint64(number), Kind: slot.App})
	if err != nil {
		return nil, err
	}
	proved, err := s.Access.WrapSCRAM(ctx, id, a, text, number+1)
	return append([]*raftpb.Slot{{Id: number, Kind: slot.App.String(), Record: wrapped.Marshal()}}, proved...), err
}

// checkApp looks at what does not depend on the account.
func checkApp(req *adminpb.AddAppPasswordRequest) error {
	if !utf8.ValidString(req.Name) || len(req.Name) > maxAppName || req.Name == "" ||
		slices.ContainsFunc([]rune(req.Name), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return status.Errorf(codes.InvalidArgument, "%q can't be the name of an app password: it has 1 to %d octets of printable text", req.Name, maxAppName)
	}
	for _, p := range req.Protocols {
		if !slices.Contains(access.Protocols, p) {
			return status.Errorf(codes.InvalidArgument, "%q is none of the protocols that one logs in to: %v", p, access.Protocols)
		}
	}
	return nil
}

// ListAppPasswords implements adminpb.AdminServer.
func (s *Server) ListAppPasswords(ctx context.Context, req *adminpb.AccountRequest) (*adminpb.AppPasswordsReply, error) {
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	reply := &adminpb.AppPasswordsReply{}
	for _, sl := range appsOf(a) {
		reply.AppPasswords = append(reply.AppPasswords, &adminpb.AppPassword{
			Name: sl.Name, Protocols: sl.Protocols, Created: sl.Created / 1e9, LastUsed: sl.LastUsed / 1e9,
		})
	}
	return reply, nil
}

// RemoveAppPassword implements adminpb.AdminServer.
func (s *Server) RemoveAppPassword(ctx context.Context, req *adminpb.AppPasswordRequest) (*adminpb.Empty, error) {
	a, err := s.newest(ctx, req.Address)
	if err != nil {
		return nil, refusal(err)
	}
	is := func(sl *raftpb.Slot) bool { return sl.Name == req.Name } // both of its slots
	if !slices.ContainsFunc(appsOf(a), is) {
		return nil, status.Errorf(codes.NotFound, "%s has no app password %q", a.Address(), req.Name)
	}
	err = s.replaceSlots(ctx, a, func(sl *raftpb.Slot) bool { return !is(sl) })
	s.Access.Enforce(a.Number) // also after an error: the change may have been committed all the same
	if err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("app password removed", "account", a.Address(), "name", req.Name)
	return &adminpb.Empty{}, nil
}

// appsOf are the slots of the account's app passwords.
func appsOf(a *raftpb.Account) []*raftpb.Slot {
	var apps []*raftpb.Slot
	for _, sl := range a.Slots {
		if sl.Kind == slot.App.String() {
			apps = append(apps, sl)
		}
	}
	return apps
}
