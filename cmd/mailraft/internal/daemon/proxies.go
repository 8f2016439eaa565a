package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/cmd/mailraft/internal/child"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/harden"
	"mailraft/cmd/mailraft/internal/logging"
	"mailraft/cmd/mailraft/internal/supervise"
)

// proxies says which protocols each child serves.
var proxies = []struct {
	name      string
	protocols []config.Protocol
}{
	{"smtp", []config.Protocol{config.SMTP, config.Submission, config.Submissions, config.LMTP}},
	{"imap", []config.Protocol{config.IMAP, config.IMAPS}},
	{"pop3", []config.Protocol{config.POP3, config.POP3S}},
}

// openFolder opens a folder only to hand it over. It asks nothing of a file system that is mounted there.
func openFolder(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// startProxies starts the children that have something to serve.
func (d *Daemon) startProxies(context.Context) error {
	var err error
	if d.runDir, err = openFolder(d.cfg.Run); err != nil {
		return err
	}
	d.atEnd("run folder", d.runDir.Close)
	specs, err := d.proxySpecs()
	if err != nil {
		return err
	}
	d.children = supervise.Start(d.log, specs...)
	d.atEnd("proxies", d.stopProxies)
	return nil
}

// killAfter is how much longer than their own limit the proxies may take to end.
const killAfter = 2 * time.Second

// stopProxies ends the proxies. With the daemon's own descriptors closed before, nobody can connect any more from the moment
// that they close theirs.
func (d *Daemon) stopProxies() error {
	closeSockets(d.sockets)
	ctx, cancel := context.WithTimeout(context.Background(), d.cfg.StopTimeout+killAfter)
	defer cancel()
	d.children.Stop(ctx)
	return nil
}

func (d *Daemon) proxySpecs() ([]supervise.Spec, error) {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return nil, err
	}
	format, err := logging.Format(d.cfg.LogFormat, os.Stderr)
	if err != nil {
		return nil, err
	}
	var specs []supervise.Spec
	for _, p := range proxies {
		h := child.Handover{
			Protocol: p.name, Hostname: d.hostname, LogLevel: d.cfg.LogLevel, LogFormat: format,
			Mount: d.cfg.ShardMounts(), MountFD: supervise.FirstFile, RunFD: supervise.FirstFile + 1, StopTimeout: d.cfg.StopTimeout,
			MaxMessage: int64(d.cfg.MaxMessage), AllowPlaintextAuth: d.cfg.AllowPlaintextAuth, SCRAM: d.cfg.Iterations != 0,
		}
		files := []*os.File{d.shardsDir, d.runDir}
		for _, s := range d.sockets {
			for _, protocol := range p.protocols {
				if s.Protocol == protocol {
					h.Listeners = append(h.Listeners, child.Listener{Protocol: protocol, Address: s.Address, FD: supervise.FirstFile + len(files)})
					files = append(files, s.file)
				}
			}
		}
		if len(h.Listeners) == 0 {
			continue
		}
		specs = append(specs, supervise.Spec{
			Name: p.name,
			Args: []string{"mailraft", "proxy", p.name},
			Env:  d.childEnv(),
			UID:  uid, GID: gid,
			Files: files,
			Hello: func() ([]byte, error) {
				hello := h
				hello.Certificate = *d.certificate.Load()
				return json.Marshal(hello)
			},
		})
	}
	return specs, nil
}

// childEnv is all of a proxy's environment. Go's preemption signals would interrupt requests to the mount again and again. What it frees is
// overwritten: passwords and mail.
func (d *Daemon) childEnv() []string {
	return []string{
		"GODEBUG=asyncpreemptoff=1," + harden.Overwriting,
		fmt.Sprintf("GOMEMLIMIT=%d", d.memoryLimit/proxyShare),
		"PATH=/nonexistent",
	}
}

// reload reads the certificate again, and hands it to the proxies.
func (d *Daemon) reload() {
	if err := d.loadCertificate(); err != nil {
		d.log.Error("certificate not reloaded, the old one stays", "error", err)
		return
	}
	b, err := json.Marshal(child.Handover{Certificate: *d.certificate.Load()})
	if err != nil {
		d.log.Error("certificate not handed over", "error", err)
		return
	}
	d.children.Send(b)
	d.log.Info("certificate reloaded")
}
