package config

import (
	"fmt"
	"net"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mailraft/fs/seal/slot"
)

// Config is everything that can be configured. The comments to the fields are with the options, in options.go.
type Config struct {
	Data     string
	Mount    string
	Run      string
	Hostname string
	Node     string
	User     string
	Shards   int
	MinFree  Size

	ClusterListen    string
	ClusterAdvertise string
	ReplaceAfter     time.Duration
	ContentCache     Size
	CatchUpBandwidth Size

	LogLevel    string
	LogFormat   string
	MemoryLimit Size
	UnlockGrace time.Duration
	UnlockBound bool
	Iterations  int
	StopTimeout time.Duration

	TLSCert string
	TLSKey  string

	MaxMessage         Size
	AllowPlaintextAuth bool

	SMTPListen          []string
	SubmissionListen    []string
	SubmissionListenTLS []string
	LMTPListen          []string
	IMAPListen          []string
	IMAPListenTLS       []string
	POP3Listen          []string
	POP3ListenTLS       []string

	AuthListen []string
	AuthGroup  string
}

// Default is the configuration of a machine whose mail system this is.
func Default() *Config {
	return &Config{
		Data:   "/var/lib/mailraft",
		Mount:  "/mail",
		Run:    "/run/mailraft",
		Node:   "node1",
		User:   "5000:5000",
		Shards: 4,

		MinFree: 0,

		ClusterListen: ":7420",
		ReplaceAfter:  10 * time.Minute,
		ContentCache:  1 << 30,

		CatchUpBandwidth: 64 << 20,

		LogLevel:    "info",
		LogFormat:   "auto",
		UnlockGrace: 30 * time.Second,
		Iterations:  slot.DefaultIterations,
		StopTimeout: 10 * time.Second,
		MaxMessage:  50 << 20,

		SMTPListen: []string{":25"},

		SubmissionListen:    []string{":587"},
		SubmissionListenTLS: []string{":465"},

		LMTPListen:    []string{"127.0.0.1:24", "unix:lmtp.sock"},
		IMAPListen:    []string{":143"},
		IMAPListenTLS: []string{":993"},
		POP3Listen:    []string{":110"},
		POP3ListenTLS: []string{":995"},
		AuthListen:    []string{"unix:auth.sock"},
	}
}

// AdminSocket is where the daemon takes commands from the admin.
func (c *Config) AdminSocket() string { return filepath.Join(c.Run, "admin.sock") }

// NodeSocket is where the daemon answers the proxies.
func (c *Config) NodeSocket() string { return filepath.Join(c.Run, NodeSocketName) }

// NodeSocketName is the node socket's name in the Run folder.
const NodeSocketName = "node.sock"

// ShardMounts is the folder with the shards' mounts, below which the proxies and other mail servers find the homes.
func (c *Config) ShardMounts() string { return filepath.Join(c.Run, "shards") }

// ShardMount is where a shard is mounted by itself.
func (c *Config) ShardMount(shard uint32) string {
	return filepath.Join(c.ShardMounts(), strconv.FormatUint(uint64(shard), 10))
}

// Check looks for what cannot work, and makes paths absolute. The error names the option.
func (c *Config) Check() error {
	for _, p := range []struct {
		key  string
		path *string
	}{{"data", &c.Data}, {"mount", &c.Mount}, {"run", &c.Run}} {
		if *p.path == "" {
			return fmt.Errorf("%s: must name a folder", p.key)
		}
		abs, err := filepath.Abs(*p.path)
		if err != nil {
			return fmt.Errorf("%s: %w", p.key, err)
		}
		*p.path = abs
	}
	if within(c.Mount, c.Data) || within(c.Data, c.Mount) || within(c.Run, c.Mount) {
		return fmt.Errorf("mount: %s must lie apart from the data folder %s and the run folder %s", c.Mount, c.Data, c.Run)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fmt.Errorf("tls.cert and tls.key: give both, or neither for a self-signed certificate")
	}
	if c.Shards < 1 || c.Shards > 64 {
		return fmt.Errorf("shards: %d is not between 1 and 64", c.Shards)
	}
	if c.Node == "" {
		return fmt.Errorf("node: must not be empty")
	}
	for key, address := range map[string]string{"cluster.listen": c.ClusterListen, "cluster.advertise": c.ClusterAdvertise} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			return fmt.Errorf("%s: %q is not host:port", key, address)
		}
	}
	if _, _, err := c.Owner(); err != nil {
		return err
	}
	if _, err := c.AuthOwner(); err != nil {
		return err
	}
	if c.MaxMessage < 64<<10 {
		return fmt.Errorf("max_message: %s is too small: at least 64K (RFC 5321, 4.5.3.1.7)", c.MaxMessage.String())
	}
	if c.Iterations != 0 && (c.Iterations < slot.MinIterations || c.Iterations > slot.MaxIterations) {
		return fmt.Errorf("scram_iterations: %d is not between %d and %d, nor 0", c.Iterations, slot.MinIterations, slot.MaxIterations)
	}
	if c.CatchUpBandwidth > 0 && c.CatchUpBandwidth < 1<<20 {
		return fmt.Errorf("cluster.catchup_bandwidth: %s is too little, at least 1M, or 0", c.CatchUpBandwidth.String())
	}
	for _, l := range c.Listeners() {
		network, _, err := l.Network()
		if err != nil {
			return fmt.Errorf("%s: %w", l.Option, err)
		}
		if l.Protocol == Auth && network != "unix" {
			return fmt.Errorf("%s: %s is not unix:PATH; who may ask is decided by the socket's permissions", l.Option, l.Address)
		}
	}
	return nil
}

// within says whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Owner is the user and group that the proxies run as, and that all mail belongs to.
func (c *Config) Owner() (uid, gid uint32, err error) {
	name, group, ok := strings.Cut(c.User, ":")
	if u, err := strconv.ParseUint(name, 10, 32); err == nil {
		uid, gid = uint32(u), uint32(u)
	} else {
		found, err := user.Lookup(name)
		if err != nil {
			return 0, 0, fmt.Errorf("user: %w (a number works without an entry in /etc/passwd)", err)
		}
		if uid, gid, err = ids(found.Uid, found.Gid); err != nil {
			return 0, 0, fmt.Errorf("user: %w", err)
		}
	}
	if ok {
		if gid, err = groupID(group); err != nil {
			return 0, 0, fmt.Errorf("user: %w", err)
		}
	}
	if uid == 0 {
		return 0, 0, fmt.Errorf("user: %q is root; the proxies parse what strangers send and must not be", c.User)
	}
	return uid, gid, nil
}

// Readers are the user ids whose processes alone may read what a login unlocks; none: those of all may.
func (c *Config) Readers() []uint32 {
	uid, _, err := c.Owner()
	if err != nil || !c.UnlockBound { // Check has told of the error
		return nil
	}
	return []uint32{uid}
}

// AuthOwner is the group whose members may ask at the sockets of auth.listen.
func (c *Config) AuthOwner() (gid uint32, err error) {
	if c.AuthGroup == "" {
		_, gid, err = c.Owner()
		return gid, err
	}
	if gid, err = groupID(c.AuthGroup); err != nil {
		return 0, fmt.Errorf("auth.group: %w (a number works without an entry in /etc/group)", err)
	}
	return gid, nil
}

// groupID is a group's number, which the text may be itself.
func groupID(group string) (uint32, error) {
	if g, err := strconv.ParseUint(group, 10, 32); err == nil {
		return uint32(g), nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	_, gid, err := ids(found.Gid, found.Gid)
	return gid, err
}

func ids(u, g string) (uid, gid uint32, err error) {
	a, err := strconv.ParseUint(u, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	b, err := strconv.ParseUint(g, 10, 32)
	return uint32(a), uint32(b), err
}

// Protocol is what is spoken on a listening socket.
type Protocol string

// The protocols; an s at the end: it begins with TLS.
const (
	SMTP        Protocol = "smtp"
	Submission  Protocol = "submission"
	Submissions Protocol = "submissions"
	LMTP        Protocol = "lmtp"
	IMAP        Protocol = "imap"
	IMAPS       Protocol = "imaps"
	POP3        Protocol = "pop3"
	POP3S       Protocol = "pop3s"
	Auth        Protocol = "auth" // Dovecot's authentication protocol, which the daemon serves itself
)

// Listener is one listening socket.
type Listener struct {
	Protocol Protocol
	Option   string // where it was configured
	Address  string // "host:port", or "unix:" and an absolute path
}

// Network is the address as package net takes it.
func (l Listener) Network() (network, address string, err error) {
	if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
		if len(path) > 107 {
			err = fmt.Errorf("the path of the Unix socket %s is longer than the 107 bytes that Linux takes", path)
		}
		return "unix", path, err
	}
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		return "", "", fmt.Errorf("%q is neither host:port nor unix:PATH", l.Address)
	}
	return "tcp", l.Address, nil
}

// Listeners are all the listening sockets. Unix sockets without a folder of their own are in the run folder.
func (c *Config) Listeners() []Listener {
	var all []Listener
	for _, p := range []struct {
		protocol  Protocol
		option    string
		addresses []string
	}{
		{SMTP, "smtp.listen", c.SMTPListen},
		{Submission, "submission.listen", c.SubmissionListen},
		{Submissions, "submission.listen_tls", c.SubmissionListenTLS},
		{LMTP, "lmtp.listen", c.LMTPListen},
		{IMAP, "imap.listen", c.IMAPListen},
		{IMAPS, "imap.listen_tls", c.IMAPListenTLS},
		{POP3, "pop3.listen", c.POP3Listen},
		{POP3S, "pop3.listen_tls", c.POP3ListenTLS},
		{Auth, "auth.listen", c.AuthListen},
	} {
		for _, a := range p.addresses {
			if path, ok := strings.CutPrefix(a, "unix:"); ok && !filepath.IsAbs(path) {
				a = "unix:" + filepath.Join(c.Run, path)
			}
			all = append(all, Listener{p.protocol, p.option, a})
		}
	}
	return all
}
