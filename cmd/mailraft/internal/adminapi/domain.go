package adminapi

import (
	"context"

	"mailraft/cmd/mailraft/internal/adminapi/adminpb"
)

// AddDomain implements adminpb.AdminServer.
func (s *Server) AddDomain(ctx context.Context, req *adminpb.DomainRequest) (*adminpb.Empty, error) {
	if err := s.Store.Directory().AddDomain(ctx, req.Name); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("domain added", "domain", req.Name)
	return &adminpb.Empty{}, nil
}

// RemoveDomain implements adminpb.AdminServer.
func (s *Server) RemoveDomain(ctx context.Context, req *adminpb.DomainRequest) (*adminpb.Empty, error) {
	if err := s.Store.Directory().RemoveDomain(ctx, req.Name); err != nil {
		return nil, refusal(err)
	}
	s.Logger.Info("domain removed", "domain", req.Name)
	return &adminpb.Empty{}, nil
}

// ListDomains implements adminpb.AdminServer.
func (s *Server) ListDomains(ctx context.Context, _ *adminpb.Empty) (*adminpb.DomainsReply, error) {
	names, err := s.domains(ctx)
	return &adminpb.DomainsReply{Names: names}, refusal(err)
}

func (s *Server) domains(ctx context.Context) ([]string, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	domains, err := s.Store.Directory().Domains()
	var names []string
	for _, d := range domains {
		names = append(names, d.Name)
	}
	return names, err
}

// oneOrAll is the domain that was asked for, or, for "", all of them.
func (s *Server) oneOrAll(ctx context.Context, domain string) ([]string, error) {
	all, err := s.domains(ctx)
	if domain != "" && err == nil {
		return []string{domain}, nil
	}
	return all, err
}
