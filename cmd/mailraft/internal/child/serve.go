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
		cfg.LMTP = true
		local := smtp.New(cfg, p.node)
		p.servers = []server{mx, local}
		return map[config.Protocol]func(net.Listener) error{config.SMTP: mx.Serve, config.LMTP: local.Serve}
	case "imap":
		s := imap.New(imap.Config{
			Hostname: h.Hostname, TLSConfig: p.tlsConfig(), Logger: p.log,
			AllowPlaintextAuth: h.AllowPlaintextAuth, MaxAppend: uint32(min(h.MaxMessage, math.MaxUint32)),
		}, p.node, p.node)
		p.servers = []server{s}
		return map[config.Protocol]func(net.Listener) error{config.IMAP: s.Serve, config.IMAPS: s.ServeTLS}
	case "pop3":
		s := pop3.New(pop3.Config{
			Hostname: h.Hostname, TLSConfig: p.tlsConfig(), Logger: p.log, AllowPlaintextAuth: h.AllowPlaintextAuth,
		}, p.node)
		p.servers = []server{s}
		return map[config.Protocol]func(net.Listener) error{config.POP3: s.Serve, config.POP3S: s.ServeTLS}
	}
	return nil
}
