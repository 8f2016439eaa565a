package dovecotauth

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cmd/mailraft/internal/access"
	"mailraft/cmd/mailraft/internal/login"
	"mailraft/fs/keyring"
	"mailraft/raftstore/raftpb"
)

// Limits of what clients may hold. A server such as Postfix has one connection for each of its processes.
const (
	maxConnections = 1024
	maxExchanges   = 64 // under way, of one connection
	handshakeTime  = 30 * time.Second
	writeTime      = 30 * time.Second
	// maxFailures bounds how long an answer is held back: Postfix waits for 10 s.
	maxFailures = 4
)

// Logins opens accounts; login.Logins is one.
type Logins interface {
	Open(ctx context.Context, at login.Attempt) (*raftpb.Account, *keyring.Session, error)
	Prove(at login.Attempt, b access.Binding) (*login.Proof, error)
}

// Accounts finds accounts; access.Control is one.
type Accounts interface {
	Find(ctx context.Context, address string) (*raftpb.Account, error)
}

var (
	_ Logins   = (*login.Logins)(nil)
	_ Accounts = (*access.Control)(nil)
)

// Config of a Server. All fields but SCRAM and FailureDelay must be set.
type Config struct {
	Logins   Logins
	Accounts Accounts
	Root     string // the folder with the shards' mounts, as clients see it
	UID, GID uint32 // the mail user
	Logger   *slog.Logger
	SCRAM    bool // SCRAM-SHA-256 is offered beside PLAIN and LOGIN
	// FailureDelay is how long the answer to a first failed login is held back, the second one of the same client twice that, and so on;
	// default 1 second.
	FailureDelay time.Duration
}

// Server answers at Unix sockets.
type Server struct {
	cfg  Config
	ctx  context.Context // until Close
	stop context.CancelFunc

	connections atomic.Uint32 // made so far
	open        chan struct{} // has an element for each open one

	mu      sync.Mutex
	closed  bool
	closers map[interface{ Close() error }]struct{} // listeners and connections
	running sync.WaitGroup
}

// NewServer makes a server. Close ends it.
func NewServer(cfg Config) *Server {
	if cfg.FailureDelay == 0 {
		cfg.FailureDelay = time.Second
	}
	s := &Server{cfg: cfg, open: make(chan struct{}, maxConnections), closers: map[interface{ Close() error }]struct{}{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve answers the listener's connections until Close, which it returns nil after, or an error of the listener.
func (s *Server) Serve(l net.Listener) error {
	if !s.hold(l) {
		return nil
	}
	defer s.drop(l)
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case s.open <- struct{}{}:
		default:
			s.cfg.Logger.Warn("refused a connection: there are too many", "socket", l.Addr())
			c.Close()
			continue
		}
		if !s.hold(c) {
			<-s.open
			return nil
		}
		go func() {
			defer s.drop(c)
			defer func() { <-s.open }()
			s.serve(c)
		}()
	}
}

// hold has Close end something, and wait for drop; after Close it is ended at once.
func (s *Server) hold(c interface{ Close() error }) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.closers[c] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) drop(c interface{ Close() error }) {
	c.Close()
	s.mu.Lock()
	delete(s.closers, c)
	s.mu.Unlock()
	s.running.Done()
}

// Close ends all connections and what they wait for. The accounts that were opened stay open while they are used.
func (s *Server) Close() {
	s.stop()
	s.mu.Lock()
	s.closed = true
	for c := range s.closers {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// serve talks to one client until it goes, or says what is no request.
func (s *Server) serve(raw net.Conn) {
	c := &conn{server: s, raw: raw, log: s.cfg.Logger, exchanges: map[uint32]*exchange{}}
	var end context.CancelFunc
	c.ctx, end = context.WithCancel(s.ctx)
	defer c.steps.Wait()
	defer end()
	raw.SetReadDeadline(time.Now().Add(handshakeTime))
	c.greet()
	in := bufio.NewReaderSize(raw, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = malformed("a line of more than %d octets", maxLine)
		} else if err != nil {
			clear(text)
			return // it is gone, or silent
		} else {
			err = c.line(text[:len(text)-1])
		}
		clear(text)
		if err != nil {
			c.log.Warn("ended a connection for logins", "error", err)
			return
		}
	}
}

// conn is a client's connection.
type conn struct {
	server *Server
	raw    net.Conn
	log    *slog.Logger
	ctx    context.Context // until the connection's end
	steps  sync.WaitGroup  // goroutines

	versioned, greeted bool // the client's handshake; of the reading goroutine

	writing sync.Mutex

	mu        sync.Mutex
	exchanges map[uint32]*exchange
	begun     uint64 // exchanges
	failures  int    // in a row, of the client below
	failed    string
}

// greet is the server's part of the handshake. It waits for none of the client's. The mechanisms come first, as Dovecot has them: to Postfix, a
// SPID before them is that of a socket for masters.
func (c *conn) greet() {
	var cookie [16]byte
	rand.Read(cookie[:]) // never fails
	hello := line(cmdVersion, strconv.Itoa(major), strconv.Itoa(minor))
	for _, m := range c.server.mechanisms() {
		hello = append(hello, line(cmdMech, append([]string{m.name}, m.traits...)...)...)
	}
	hello = append(hello, line(cmdSPID, strconv.Itoa(os.Getpid()))...)
	hello = append(hello, line(cmdCUID, number(c.server.connections.Add(1)))...)
	hello = append(hello, line(cmdCookie, hex.EncodeToString(cookie[:]))...)
	c.write(append(hello, line(cmdDone)...))
}

func (c *conn) write(text []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.raw.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := c.raw.Write(text); err != nil {
		c.raw.Close() // the reading ends as well
	}
}

// line does what a line asks for. An error ends the connection.
func (c *conn) line(text []byte) error {
	r, err := parse(text)
	if err != nil {
		return err
	}
	switch r.command {
	case cmdVersion:
		if r.major != major {
			return malformed("version %d of the protocol; this is version %d", r.major, major)
		}
		c.versioned = true
		return nil
	case cmdCPID:
		c.greeted = true
		c.raw.SetReadDeadline(time.Time{})
		return nil
	case "":
		return nil
	}
	if !c.versioned || !c.greeted && r.command != cmdUser { // a master sends no CPID
		clear(r.response)
		return malformed("%s before the handshake", r.command)
	}
	switch r.command {
	case cmdAuth:
		c.begin(r)
	case cmdCont:
		return c.proceed(r)
	case cmdCancel:
		c.mu.Lock()
		delete(c.exchanges, r.id)
		c.mu.Unlock()
	case cmdUser:
		c.raw.SetReadDeadline(time.Time{})
		c.lookUp(r)
	}
	return nil
}

// fail refuses a request.
func (c *conn) fail(id uint32, params ...string) {
	c.write(line(cmdFail, append([]string{number(id)}, params...)...))
}

// temporary are the parameters of a FAIL that says nothing about the password, as old clients and new ones know them.
var temporary = []string{"temp", "code=temp_fail"}

// lookUp answers where an account is.
func (c *conn) lookUp(r request) {
	if !c.enter(r.id, &exchange{running: true}) {
		c.fail(r.id, temporary...)
		return
	}
	c.steps.Go(func() {
		defer c.leave(r.id)
		a, err := c.server.cfg.Accounts.Find(c.ctx, r.name)
		switch {
		case err == nil:
			c.write(line(cmdUser, append([]string{number(r.id), a.Address()}, c.server.fields(a)...)...))
		case isUnknown(err):
			c.write(line(cmdNotFound, number(r.id)))
		default:
			c.log.Warn("look-up put off", "user", login.Clip(r.name), "error", err)
			c.fail(r.id, temporary...)
		}
	})
}

// fields say where an account is, and as whom to use it.
func (s *Server) fields(a *raftpb.Account) []string {
	return []string{
		fmt.Sprint("uid=", s.cfg.UID), fmt.Sprint("gid=", s.cfg.GID), "home=" + filepath.Join(s.cfg.Root, filepath.FromSlash(login.Home(a))),
	}
}
