package dovecotauth

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/fs/keyring"
	"mailraft/raftstore/raftpb"
)

// FuzzRequests has a client say anything behind its handshake. Whatever it is, the server says whole lines of its own, lets nobody in, and
// ends.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.2\trip=192.0.2.1\tsecured\tresp=AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==\n",
		"AUTH\t2\tLOGIN\tservice=imap\nCONT\t2\tYQ==\nCONT\t2\tYQ==\n",
		"AUTH\t4294967295\tlogin\tresp=\tresp=x\n",
		"AUTH\t3\tPLAIN\tresp=AAA=\nAUTH\t3\tPLAIN\tresp=AAA=\nCANCEL\t3\n",
		"AUTH\t5\tSCRAM-SHA-256\tresp=biwsbj1hLHI9Yg==\nCONT\t5\t\n",
		"USER\t4\talice@example.org\tservice=lmtp\n", "USER\t4\t\x01t\x01l\x010\x011\x01r\x01x\x01\tdebug\n",
		"CPID\t1\nVERSION\t1\t9\nWHAT\n\n\t\t\n", "VERSION\t2\n", "CONT\n", "CANCEL\tx\n", strings.Repeat("A", maxLine+1),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		for text := range bytes.SplitSeq(said, []byte{'\n'}) {
			if r, err := parse(text); err == nil && (r.command == cmdAuth || r.command == cmdUser) {
				// A parameter that is written again is read as the same.
				again, err := parse(bytes.TrimSuffix(line(r.command, number(r.id), r.name), []byte{'\n'}))
				if err != nil || again.id != r.id || again.name != r.name {
					t.Fatalf("%+v became %+v, %v", r, again, err)
				}
			}
		}
		s := NewServer(Config{Logins: nobody{}, Accounts: nobody{}, Root: "/", SCRAM: true, Logger: slog.New(slog.DiscardHandler), FailureDelay: 1})
		defer s.Close()
		c := &script{Reader: bytes.NewReader(append([]byte("VERSION\t1\t0\nCPID\t1\n"), said...))}
		s.serve(c)
		b := c.heard.Bytes()
		if len(b) > 0 && b[len(b)-1] != '\n' {
			t.Fatalf("half a line: %q", b)
		}
		for answer := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
			command, _, _ := strings.Cut(answer, "\t")
			switch command {
			case cmdVersion, cmdSPID, cmdCUID, cmdCookie, cmdMech, cmdDone, cmdCont, cmdFail, cmdNotFound:
			default:
				t.Fatalf("it says %q", answer)
			}
		}
	})
}

// script is a connection to a client that says what it has to say, and hears everything. Writes do not come two at a time.
type script struct {
	net.Conn
	*bytes.Reader
	heard bytes.Buffer
}

func (c *script) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c *script) Write(b []byte) (int, error)      { return c.heard.Write(b) }
func (c *script) SetReadDeadline(time.Time) error  { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }
func (c *script) Close() error                     { return nil }

// nobody has no account.
type nobody struct{}

func (nobody) Open(context.Context, login.Attempt) (*raftpb.Account, *keyring.Session, error) {
	return nil, nil, login.ErrRefused
}

func (nobody) Prove(login.Attempt, access.Binding) (*login.Proof, error) {
	return nil, access.ErrNoSCRAM
}

func (nobody) Find(context.Context, string) (*raftpb.Account, error) { return nil, access.ErrUnsure }
