package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/config"
	"mailraft/cmd/mailraft/internal/harden"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/cmd/mailraft/internal/nodeapi"
	"mailraft/cmd/mailraft/internal/supervise"
	"mailraft/cmd/mailraft/internal/throttle"
	"mailraft/cmd/mailraft/internal/tlscert"
	"mailraft/fs"
	"mailraft/fs/keyring"
	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/raftstore/durable"
)

// Daemon is a running node. Its parts are in the order in which they are started.
type Daemon struct {
	cfg         *config.Config
	log         *slog.Logger
	hostname    string
	started     time.Time
	memoryLimit uint64
	certificate atomic.Pointer[tlscert.Pair]

	store     *raftstore.Store
	gate      *slot.Gate
	keyring   *keyring.Keyring
	resealer  *fs.Resealer
	access    *access.Control
	logins    *login.Logins
	throttle  *throttle.Throttle
	sweeper   *sweeper
	unmounted chan string // the mountpoints of mounts that have ended
	shardsDir *os.File    // to hand over
	mountDirs []*os.File  // the roots, for the guard
	runDir    *os.File
	node      *nodeapi.Server
	sockets   []*socket
	children  *supervise.Supervisor

	closers []closer // what ends each of them
}

// Signals come from outside.
type Signals struct {
	Reload <-chan struct{} // read the certificate again
	// Ready is called once the node serves.
	Ready func() error
}

// Run is a node's life: it returns when ctx is done and everything has ended, or when something cannot be started.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger, signals Signals) error {
	if os.Geteuid() != 0 {
		return errors.New("mailraft serve mounts a file system and starts its proxies as another user: run it as root")
	}
	if err := harden.Process(); err != nil {
		return err
	}
	d := &Daemon{cfg: cfg, log: log, started: time.Now()}
	err := d.start(ctx)
	if err == nil && ctx.Err() == nil && signals.Ready != nil {
		err = signals.Ready()
	}
	if err == nil && ctx.Err() == nil {
		err = d.serve(ctx, signals.Reload)
	}
	return errors.Join(err, d.close())
}

// serve waits for the end.
func (d *Daemon) serve(ctx context.Context, reload <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stopping")
			return nil
		case path := <-d.unmounted:
			return fmt.Errorf("somebody unmounted %s; start again to mount it", path)
		case <-reload:
			d.reload()
		}
	}
}

// start starts the parts, each with what ends it.
func (d *Daemon) start(ctx context.Context) error {
	d.memoryLimit = limitMemory(uint64(d.cfg.MemoryLimit))
	if d.hostname = d.cfg.Hostname; d.hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		d.hostname = name
	}
	for _, step := range []func(context.Context) error{
		d.makeFolders, d.openStore, d.openCertificate, d.openMount, d.answerProxies, d.listen,
		d.startProxies, d.answerServers, d.answerAdmin,
	} {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		if err := step(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	d.log.Info("serving", "mount", d.cfg.Mount, "data", d.cfg.Data, "took", time.Since(d.started).Round(time.Millisecond))
	return nil
}

// closer ends a part of the daemon.
type closer struct {
	what string
	fn   func() error
}

func (d *Daemon) atEnd(what string, fn func() error) { d.closers = append(d.closers, closer{what, fn}) }

// close ends the parts, the last one first.
func (d *Daemon) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		c, begun := d.closers[i], time.Now()
		if err := c.fn(); err != nil {
			errs = append(errs, fmt.Errorf("end of %s: %w", c.what, err))
		}
		d.log.Debug("ended", "part", c.what, "took", time.Since(begun))
	}
	return errors.Join(errs...)
}

func (d *Daemon) makeFolders(context.Context) error {
	for _, f := range []struct {
		path string
		mode os.FileMode
	}{{d.cfg.Data, 0o700}, {d.cfg.Run, 0o755}} {
		if err := os.MkdirAll(f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// openTime is how long the store may take to be ready: longer than to apply again what a crash left of the log.
const openTime = 2 * time.Minute

func (d *Daemon) openStore(ctx context.Context) (err error) {
	uid, gid, err := d.cfg.Owner()
	if err != nil {
		return err
	}
	ours, err := claimed(d.cfg.Data, d.cfg.Node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	d.store, err = raftstore.Open(ctx, raftstore.Config{
		Dir: StoreFolder(d.cfg.Data), NodeID: d.cfg.Node, Existing: ours, Shards: d.cfg.Shards, UID: uid, GID: gid,
		MinFree: uint64(d.cfg.MinFree), Listen: d.cfg.ClusterListen, Advertise: d.cfg.ClusterAdvertise, ReplaceAfter: d.cfg.ReplaceAfter,
		ContentCache: int64(d.cfg.ContentCache), CatchUpBandwidth: int64(d.cfg.CatchUpBandwidth), Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.atEnd("store", d.store.Close)
	if made := len(d.store.Shards()); made != d.cfg.Shards {
		d.log.Warn("the data folder keeps the shards that it was made with", "shards", made, "configured", d.cfg.Shards)
	}
	if !ours {
		if err := claim(d.cfg.Data, d.cfg.Node); err != nil {
			return err
		}
	}
	// The store syncs what is in its folder; that the folder is there must survive as well.
	for _, dir := range []string{d.cfg.Data, filepath.Dir(d.cfg.Data)} {
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
	}
	// As many derivations at once as keep all processors busy, as long as they take no more than a quarter of the memory.
	threads := int(slot.DefaultParams.Threads)
	turns := max(1, min((runtime.NumCPU()+threads-1)/threads, int(d.memoryLimit/4/(uint64(slot.DefaultParams.Memory)<<10))))
	d.gate = slot.NewGate(turns)
	d.gate.OnBusy(besideRequests(turns * threads))
	d.keyring = keyring.New(keyring.Config{Grace: d.cfg.UnlockGrace, Gate: d.gate, Previous: access.Previous(d.store, d.log)})
	d.atEnd("keyring", d.keyring.Close)
	d.resealer = fs.NewResealer(d.store, d.keyring, d.log)
	d.atEnd("resealer", d.resealer.Close)
	d.access = access.New(d.store, d.keyring, uint32(d.cfg.Iterations), d.log)
	d.atEnd("access control", d.access.Close)
	d.throttle = throttle.New(d.store.Directory(), d.log)
	if d.logins, err = login.New(d.access, d.throttle, d.gate, d.log, d.cfg.Readers()...); err != nil {
		return err
	}
	d.sweeper = newSweeper()
	d.gate.OnLeave(d.sweeper.derived)
	d.keyring.OnLock(d.sweeper.locked)
	d.atEnd("sweeper", d.sweeper.stop)
	return nil
}

// besideRequests has so many threads work beside those that serve requests, while they are busy. Else Go would have each step of a request
// wait until a derivation has had its 10 ms; the kernel lets those run at once that have slept. At other times more threads would only look for
// work.
func besideRequests(threads int) func(busy bool) {
	usual := runtime.GOMAXPROCS(0)
	return func(busy bool) {
		if busy {
			runtime.GOMAXPROCS(usual + threads)
		} else {
			runtime.SetDefaultGOMAXPROCS() // what the machine, or the control group, has now
		}
	}
}

func (d *Daemon) openCertificate(context.Context) error { return d.loadCertificate() }

func (d *Daemon) loadCertificate() error {
	if d.cfg.TLSCert != "" {
		p, err := tlscert.Load(d.cfg.TLSCert, d.cfg.TLSKey)
		if err == nil {
			d.certificate.Store(&p)
		}
		return err
	}
	p, made, err := tlscert.SelfSigned(filepath.Join(d.cfg.Data, tlsFolder), d.hostname)
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	if made {
		d.log.Warn("made a self-signed certificate; mail clients will not trust it: set tls.cert and tls.key", "hostname", d.hostname)
	}
	d.certificate.Store(&p)
	return nil
}

// listen opens the sockets for the world.
func (d *Daemon) listen(context.Context) (err error) {
	group, err := d.cfg.AuthOwner()
	if err != nil {
		return err
	}
	if d.sockets, err = listen(d.cfg.Listeners(), group); err != nil {
		return err
	}
	d.atEnd("sockets", func() error { closeSockets(d.sockets); return nil })
	return nil
}
