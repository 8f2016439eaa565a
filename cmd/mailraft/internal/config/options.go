package config

import (
	"strings"
	"time"
)

// An option is one thing to configure, under one name everywhere: "smtp.listen" in the file is MAILRAFT_SMTP_LISTEN in the
// environment and --smtp-listen as a flag.
type option struct {
	key   string
	value value
	doc   string // for the help and the sample; lines of at most 100 characters
}

func (o option) env() string {
	return "MAILRAFT_" + strings.ToUpper(strings.ReplaceAll(o.key, ".", "_"))
}
func (o option) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(o.key) }

// options is the one place where every option is described.
func (c *Config) options() []option {
	return []option{
		{"data", (*text)(&c.Data), "Folder of everything that is stored: the replicas, and a self-signed certificate."},
		{"mount", (*text)(&c.Mount), "Where the mail is mounted: MOUNT/<domain>/<local part> is a Maildir++."},
		{"run", (*text)(&c.Run), "Folder of the daemon's sockets, admin.sock (for these commands) and node.sock (for the proxies), and of a mount a shard (shards/)."},
		{"hostname", (*text)(&c.Hostname), "The name in greetings, trace lines and the self-signed certificate.\nDefault: the machine's name."},
		{"node", (*text)(&c.Node), "This node's name among the replicas. It is kept in the data folder and cannot be changed later."},
		{"user", (*text)(&c.User), "Who the proxies run as and who owns the mail: user, user:group, or numbers, which need no entry in\n/etc/passwd."},
		{"shards", (*count)(&c.Shards), "How many Raft groups share the mailboxes, decided when the data folder is made."},
		{"min_free", &c.MinFree, "With less than this free on the disk of the data folder, nothing more is stored (ENOSPC, SMTP 452). 0: what the store may need at once, 450 MiB with 4 shards, but an eighth of the disk at most."},
		{"max_message", &c.MaxMessage, "The largest message that is taken, by SMTP, LMTP and IMAP APPEND."},
		{"unlock_grace", (*duration)(&c.UnlockGrace), "How long an account stays unlocked after its last session ended."},
		{"unlock_bound", (*flag)(&c.UnlockBound), "A login unlocks its account for the mail user's processes alone (the option user): the proxies, and other mail servers that work on the mount\nas that user. All others on the node are told EACCES, root's too; so what a backup, an indexer or a search of root's reads of /mail is never mail."},
		{"scram_iterations", (*count)(&c.Iterations), "The work of guessing passwords by what SCRAM-SHA-256 stores, and of a client at each login by it (RFC 7677).\nPasswords take it over when they are set. Clients with Cyrus SASL (mbsync) refuse more than 65536; OWASP has 600000. 0: no SCRAM, and only Argon2id to guess at."},
		{"stop_timeout", (*duration)(&c.StopTimeout), "How long the proxies may take to finish their commands when the daemon stops."},
		{"memory_limit", &c.MemoryLimit, "Memory that the daemon tries to stay below, as GOMEMLIMIT does; each proxy gets an eighth of it.\n0: half of the machine's, or of the cgroup's."},
		{"allow_plaintext_auth", (*flag)(&c.AllowPlaintextAuth), "Take passwords without TLS from everywhere, not only from this machine itself."},
		{"cluster.listen", (*text)(&c.ClusterListen), "Where the other nodes of the cluster reach this one: host:port. TLS under the cluster's own authority.\nEmpty: this node stays alone."},
		{"cluster.advertise", (*text)(&c.ClusterAdvertise), "The host:port that the others are told, where it is another one than cluster.listen.\nDefault: cluster.listen, with the machine's name if that has no host."},
		{"cluster.replace_after", (*duration)(&c.ReplaceAfter), "How long a node may not answer before others vote instead of it, if there are others."},
		{"cluster.content_cache", &c.ContentCache, "Disk for sealed messages that were read from other nodes, as this one has no copy of their shard."},
		{"cluster.catchup_bandwidth", &c.CatchUpBandwidth, "How much this node sends in a second, of whole shards, to nodes that are new or were away for long; and how much\nof accounts that move to another shard, or are sealed to a new key. 0: as much as it can."},
		{"log.level", (*text)(&c.LogLevel), "debug, info, warn or error."},
		{"log.format", (*text)(&c.LogFormat), "text, json, or auto: text on a terminal, else json."},
		{"tls.cert", (*text)(&c.TLSCert), "PEM file of the certificate with its chain, read again at SIGHUP.\nDefault: a self-signed one, made at the first start in the data folder."},
		{"tls.key", (*text)(&c.TLSKey), "PEM file of the certificate's private key."},
		{"smtp.listen", (*list)(&c.SMTPListen), "Addresses for SMTP from other mail servers (with STARTTLS): host:port or unix:PATH."},
		{"submission.listen", (*list)(&c.SubmissionListen), "Addresses for messages from the users' mail programs, who log in (with STARTTLS)."},
		{"submission.listen_tls", (*list)(&c.SubmissionListenTLS), "Addresses for such messages, where the connection begins with TLS."},
		{"lmtp.listen", (*list)(&c.LMTPListen), "Addresses for LMTP from a mail server of your own: keep them from strangers. unix:NAME is a socket in the run folder."},
		{"imap.listen", (*list)(&c.IMAPListen), "Addresses for IMAP (with STARTTLS)."},
		{"imap.listen_tls", (*list)(&c.IMAPListenTLS), "Addresses for IMAP that begins with TLS."},
		{"pop3.listen", (*list)(&c.POP3Listen), "Addresses for POP3 (with STLS)."},
		{"pop3.listen_tls", (*list)(&c.POP3ListenTLS), "Addresses for POP3 that begins with TLS."},
		{"auth.listen", (*list)(&c.AuthListen), "Sockets at which other mail servers have passwords checked, by Dovecot's authentication protocol: unix:PATH, or unix:NAME in the run\nfolder. See docs/postfix.md and docs/dovecot.md."},
		{"auth.group", (*text)(&c.AuthGroup), "The group whose members may open these sockets: a name or a number. Default: that of the option user."},
	}
}

// The values' types.
type (
	text     string
	count    int
	flag     bool
	duration time.Duration
	list     []string
)
