package dovecotauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"
)

// What a Client is answered, beside success.
var (
	ErrRefused    = errors.New("wrong user or password")
	ErrNoSuchUser = errors.New("no such user")
	ErrTemporary  = errors.New("the server cannot tell now")
)

// User is who was asked about.
type User struct {
	Name     string // canonical address
	UID, GID string
	Home     string
}

// Client asks a Server, one thing after the other.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	last uint32
}

// Dial reaches the server at a Unix socket. ctx bounds all that the client does.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	if late, ok := ctx.Deadline(); ok {
		conn.SetDeadline(late)
	}
	if err := c.handshake(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) handshake() error {
	hello := line(cmdVersion, strconv.Itoa(major), strconv.Itoa(minor))
	if _, err := c.conn.Write(append(hello, line(cmdCPID, strconv.Itoa(os.Getpid()))...)); err != nil {
		return err
	}
	for {
		command, params, err := c.read()
		switch {
		case err != nil:
			return err
		case command == cmdVersion && (len(params) == 0 || params[0] != strconv.Itoa(major)):
			return fmt.Errorf("version %v of the Dovecot authentication protocol, which is not known here", params)
		case command == cmdDone:
			return nil
		}
	}
}

func (c *Client) read() (command string, params []string, err error) {
	text, err := c.in.ReadSlice('\n')
	if err != nil {
		return "", nil, err
	}
	params = strings.Split(string(text[:len(text)-1]), "\t")
	for i, p := range params {
		params[i] = unescape([]byte(p))
	}
	return params[0], params[1:], nil
}

// LogIn has the server check a password, by PLAIN. params tell of who logs in: "service=imap", "rip=192.0.2.1" and so on. password is the
// caller's to wipe. Errors: ErrRefused, ErrTemporary, those of the connection.
func (c *Client) LogIn(username string, password []byte, params ...string) (User, error) {
	c.last++
	request := line(cmdAuth, append([]string{number(c.last), sasl.Plain}, params...)...)
	request = request[:len(request)-1]
	plain := make([]byte, 0, len(username)+len(password)+2)
	plain = append(append(append(append(plain, 0), username...), 0), password...)
	defer clear(plain)
	whole := make([]byte, 0, len(request)+len("\tresp=\n")+base64.StdEncoding.EncodedLen(len(plain)))
	defer func() { clear(whole[:cap(whole)]) }()
	whole = append(append(whole, request...), "\tresp="...)
	whole = append(base64.StdEncoding.AppendEncode(whole, plain), '\n')
	return c.ask(whole)
}

// LookUp asks for a user without a password. Errors: ErrNoSuchUser, ErrTemporary, those of the connection.
func (c *Client) LookUp(username string, params ...string) (User, error) {
	c.last++
	return c.ask(line(cmdUser, append([]string{number(c.last), username}, params...)...))
}

func (c *Client) ask(request []byte) (User, error) {
	if _, err := c.conn.Write(request); err != nil {
		return User{}, err
	}
	for {
		command, params, err := c.read()
		if err != nil {
			return User{}, err
		}
		if len(params) == 0 || params[0] != number(c.last) {
			continue
		}
		var u User
		switch params = params[1:]; command {
		case cmdOK:
			u.take(params)
			return u, nil
		case cmdUser:
			if len(params) > 0 {
				u.Name = params[0]
			}
			u.take(params)
			return u, nil
		case cmdNotFound:
			return u, ErrNoSuchUser
		case cmdFail:
			for _, p := range params {
				if p == temporary[0] || p == temporary[1] {
					return u, ErrTemporary
				}
			}
			return u, ErrRefused
		default:
			return u, fmt.Errorf("%w: it answered %s", ErrTemporary, command)
		}
	}
}

func (u *User) take(params []string) {
	for _, p := range params {
		key, value, _ := strings.Cut(p, "=")
		switch key {
		case "user":
			u.Name = value
		case "uid":
			u.UID = value
		case "gid":
			u.GID = value
		case "home":
			u.Home = value
		}
	}
}
