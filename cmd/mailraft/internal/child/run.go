package child

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/harden"
	"mailraft/cmd/mailraft/internal/logging"
	"mailraft/cmd/mailraft/internal/nodeapi"
	"mailraft/cmd/mailraft/internal/sandbox"
	"mailraft/cmd/mailraft/internal/supervise"
	"mailraft/cmd/mailraft/internal/tlscert"
)

// ErrNotChild: the process was not started by the daemon.
var ErrNotChild = errors.New("proxies are started by mailraft serve")

// Run is the life of a proxy. It returns when the daemon asked it to end or is gone, or with an error that it cannot go on
// with.
func Run(protocol string) error {
	if err := begin(protocol); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)

	messages := json.NewDecoder(os.NewFile(supervise.Pipe, "handover"))
	var h Handover
	if err := messages.Decode(&h); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	if h.Protocol != protocol {
		return fmt.Errorf("handover: for %s, this is %s", h.Protocol, protocol)
	}
	p, err := start(&h)
	if err != nil {
		return err
	}
	defer p.node.Close()
	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned)
		p.follow(messages)
	}()
	select {
	case err := <-p.failed:
		return err
	case <-stop:
	case <-orphaned:
		p.log.Warn("the daemon is gone")
	}
	return p.shutdown()
}

// begin makes sure that this is a child of the daemon, gives it a name, and hardens it.
func begin(name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(supervise.Pipe, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return ErrNotChild
	}
	// What ps(1) and top(1) show; it cannot be set after the next step.
	if err := os.WriteFile("/proc/self/comm", []byte("mailraft-"+name), 0); err != nil {
		return err
	}
	if err := harden.Process(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP) // sent to all processes of this program, they are meant for the daemon
	return nil
}

// process is a running proxy.
type process struct {
	handover *Handover
	log      *slog.Logger
	node     *nodeapi.Client
	cert     atomic.Pointer[tls.Certificate]
	servers  []server
	failed   chan error // what a server could not go on with
}

// server is what the protocols' servers have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func start(h *Handover) (*process, error) {
	log, err := logging.New(os.Stderr, h.LogLevel, h.LogFormat)
	if err != nil {
		return nil, err
	}
	log = log.With("proxy", h.Protocol)
	slog.SetDefault(log)
	p := &process{handover: h, log: log, failed: make(chan error, len(h.Listeners))}
	if err := p.setCertificate(h.Certificate); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	root, err := mountRoot(h)
	if err != nil {
		return nil, err
	}
	// The socket has a short path where the sandbox leaves no room for another.
	if err := unix.Fchdir(h.RunFD); err != nil {
		return nil, fmt.Errorf("the folder of the node's socket: %w", err)
	}
	if p.node, err = nodeapi.NewClient(config.NodeSocketName, root); err != nil {
		return nil, err
	}
	if err := p.serve(); err != nil {
		return nil, errors.Join(err, p.node.Close())
	}
	return p, nil
}

// confine leaves this process what its protocol needs. All that has to be opened or asked elsewhere has been.
func (p *process) confine() error {
	_ = time.Now().Local().String() // has the time zone read
	return sandbox.Enter(sandbox.Limits{
		Mail: fdPath(p.handover.MountFD), Socket: config.NodeSocketName, SocketFolder: fdPath(p.handover.RunFD), Log: p.log,
	})
}

// fdPath is a path to what a descriptor has open, wherever it lies.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// mountRoot is where this process reaches the mount: by its path, or, where folders on the way are closed to this user, by the
// descriptor that it was handed.
func mountRoot(h *Handover) (string, error) {
	var byFD, byPath unix.Stat_t
	if err := unix.Fstat(h.MountFD, &byFD); err != nil {
		return "", fmt.Errorf("mount %s: %w", h.Mount, err)
	}
	if err := unix.Stat(h.Mount, &byPath); err == nil && byPath.Dev == byFD.Dev && byPath.Ino == byFD.Ino {
		return h.Mount, nil
	}
	return fdPath(h.MountFD), nil
}

func (p *process) setCertificate(pair tlscert.Pair) error {
	cfg, err := pair.Config()
	if err != nil {
		return err
	}
	p.cert.Store(&cfg.Certificates[0])
	return nil
}

// tlsConfig shows the certificate that is valid when a client comes.
func (p *process) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.cert.Load(), nil },
	}
}

// follow takes new certificates until the daemon is gone.
func (p *process) follow(messages *json.Decoder) {
	for {
		var h Handover
		if err := messages.Decode(&h); err != nil {
			return
		}
		if err := p.setCertificate(h.Certificate); err != nil {
			p.log.Error("new certificate", "error", err)
			continue
		}
		p.log.Info("new certificate in use")
	}
}

// shutdown ends all servers, within the time allowed.
func (p *process) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.handover.StopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range p.servers {
		wg.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				p.log.Warn("connections were cut", "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}
