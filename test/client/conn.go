package client

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// patience is how long a server may take for an answer, or for taking what is sent.
const patience = 60 * time.Second

// conn is a connection whose lines end in CRLF.
type conn struct {
	net.Conn
	r *bufio.Reader
}

// dial connects to a TCP address, or to "unix:" and a path. With a TLS configuration, TLS comes first.
func dial(address string, secure *tls.Config) (*conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	d := net.Dialer{Timeout: patience}
	var c net.Conn
	var err error
	if secure != nil {
		c, err = tls.DialWithDialer(&d, network, address, secure)
	} else {
		c, err = d.Dial(network, address)
	}
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReaderSize(c, 64<<10)}, nil
}

// startTLS goes on under TLS.
func (c *conn) startTLS(secure *tls.Config) error {
	if c.r.Buffered() > 0 {
		return errors.New("the server sent something before TLS began")
	}
	t := tls.Client(c.Conn, secure)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := t.Handshake(); err != nil {
		return err
	}
	c.Conn, c.r = t, bufio.NewReaderSize(t, 64<<10)
	return nil
}

// Send sends octets as they are.
func (c *conn) Send(p []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.Write(p)
	return err
}

// Sendf sends a line.
func (c *conn) Sendf(format string, args ...any) error {
	return c.Send([]byte(fmt.Sprintf(format, args...) + "\r\n"))
}

// Line reads a line, without its end. A line that ends in a bare LF is an error.
func (c *conn) Line() (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err == io.EOF && line != "" {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return "", fmt.Errorf("a bare LF ends %q", line)
	}
	return text, nil
}

// octets reads that many.
func (c *conn) octets(n int) ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.r, b)
	return b, err
}

// Trust is a TLS configuration that trusts the certificates of a PEM file alone, for a server of that name.
func Trust(file, name string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return &tls.Config{RootCAs: pool, ServerName: name}, nil
}
