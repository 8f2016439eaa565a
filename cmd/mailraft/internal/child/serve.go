package child

import (
	"fmt"
	"math"
	"net"
	"os"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/proxy/imap"
	"mailraft/proxy/pop3"
	"mailraft/proxy/smtp"
)

// serve confines the process and starts the protocol's servers on the listening sockets.
func (p *process) serve() error {
	listeners, err := takeListeners(p.handover.Listeners)
	if err != nil {
		return err
	}
	serve := p.protocols()
	if err := p.confine(); err != nil {
		return err
	}
	for i, l := range p.handover.Listeners {
		fn, ok := serve[l.Protocol]
		if !ok {
			return fmt.Errorf("handover: %s is not served by a %s proxy", l.Protocol, p.handover.Protocol)
		}
		go func() {
			if err := fn(listeners[i]); err != nil {
				p.failed <- fmt.Errorf("%s at %s: %w", l.Protocol, l.Address, err)
			}
		}()
	}
	return nil
}

func takeListeners(handed []Listener) ([]net.Listener, error) {
	var all []net.Listener
	for _, h := range handed {
		f := os.NewFile(uintptr(h.FD), h.Address)
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("listening socket %s: %w", h.Address, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// protocols makes this process's servers, and says which of them serves what.
func (p *process) protocols() map[config.Protocol]func(net.Listener) error {
	h := p.handover
	switch h.Protocol {
	case "smtp":
		cfg := smtp.Config{Hostname: h.Hostname, TLSConfig: p.tlsConfig(), Logger: p.log, MaxMessageBytes: h.MaxMessage}
		mx := smtp.New(cfg, p.node)
		local, submission := cfg, cfg
		local.LMTP = true
		lmtp := smtp.New(local, p.node)
		submission.Logins, submission.AllowPlaintextAuth, submission.SCRAM = p.node, h.AllowPlaintextAuth, h.SCRAM
		msa := smtp.New(submission, p.node)
		p.servers = []server{mx, lmtp, msa}
		return map[config.Protocol]func(net.Listener) error{
			config.SMTP: mx.Serve, config.LMTP: lmtp.Serve, config.Submission: msa.Serve, config.Submissions: msa.ServeTLS,
		}
	case "imap":
		s := imap.New(imap.Config{
			Hostname: h.Hostname, TLSConfig: p.tlsConfig(), Logger: p.log,
			AllowPlaintextAuth: h.AllowPlaintextAuth, SCRAM: h.SCRAM, MaxAppend: uint32(min(h.MaxMessage, math.MaxUint32)),
		}, p.node, p.node)
		p.servers = []server{s}
		return map[config.Protocol]func(net.Listener) error{config.IMAP: s.Serve, config.IMAPS: s.ServeTLS}
	case "pop3":
		s := pop3.New(pop3.Config{
			Hostname: h.Hostname, TLSConfig: p.tlsConfig(), Logger: p.log, AllowPlaintextAuth: h.AllowPlaintextAuth, SCRAM: h.SCRAM,
		}, p.node)
		p.servers = []server{s}
		return map[config.Protocol]func(net.Listener) error{config.POP3: s.Serve, config.POP3S: s.ServeTLS}
	}
	return nil
}
