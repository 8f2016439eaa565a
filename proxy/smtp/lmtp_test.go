package smtp

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
)

func TestLMTPOverUnixSocket(t *testing.T) {
	h := newHouse(t, "alice@example.org", "bob@example.org")
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{LMTP: true, Hostname: "mx.example.org"}, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()

	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := gosmtp.NewClientLMTP(conn)
	defer c.Close()
	for range 2 {
		if err := c.Mail("a@example.com", nil); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"alice@example.org", "bob@example.org"} {
			if err := c.Rcpt(to, nil); err != nil {
				t.Fatal(err)
			}
		}
		var refused *gosmtp.SMTPError
		if err := c.Rcpt("nobody@example.org", nil); !errors.As(err, &refused) || refused.Code != 550 {
			t.Fatalf("nobody: %v", err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(letter)); err != nil {
			t.Fatal(err)
		}
		replies, err := w.CloseWithLMTPResponse()
		if err != nil || len(replies) != 2 {
			t.Fatal(replies, err)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	h.wantBodies(t, "alice@example.org", letter, letter)
	h.wantBodies(t, "bob@example.org", letter, letter)
	if text := h.messages(t, "alice@example.org", "")[0]; !strings.Contains(text, "Received: from localhost\r\n\tby mx.example.org with LMTP id ") {
		t.Errorf("%q", text)
	}
}

// LMTP: one reply for each recipient, in their order, and a mailbox that fails takes no other with it (RFC 2033, 4.2).
func TestLMTPReplies(t *testing.T) {
	for _, missing := range []string{"tmp", "new"} {
		h := newHouse(t, "alice@example.org", "bob@example.org", "carol@example.org")
		h.aliases["team@example.org"] = []string{"alice@example.org", "bob@example.org"}
		if err := os.Remove(filepath.Join(h.home("bob@example.org"), missing)); err != nil {
			t.Fatal(err)
		}
		_, address := run(t, Config{LMTP: true, MaxMessageBytes: 600_000}, h)
		c := dial(t, address)
		c.expect("220 ")
		c.dialogue("C: LHLO client.example\nS: 250-")
		open := func(data string) {
			c.dialogue(`
				C: MAIL FROM:<a@example.com>
				S: 250
				C: RCPT TO:<alice@example.org>
				S: 250
				C: RCPT TO:<bob@example.org>
				S: 250
				C: RCPT TO:<team@example.org>
				S: 250
				C: RCPT TO:<nobody@example.org>
				S: 550
				C: RCPT TO:<carol+x@example.org>
				S: 250
				C: RCPT TO:<alice@example.org>
				S: 250`)
			c.send(data)
		}
		mixed := []string{"250 2.0.0 <alice@example.org> ", "451 4.3.0 <bob@example.org> ", "451 4.3.0 <team@example.org> ",
			"250 2.0.0 <carol+x@example.org> ", "250 2.0.0 <alice@example.org> "}

		large := strings.Repeat("0123456789abcd\r\n", 30_000)
		open("DATA\r\n")
		c.expect("354 ")
		c.send(large + ".\r\n")
		c.expect(mixed...)
		open("BDAT 2\r\nb\nBDAT 1 LAST\r\n\n")
		c.expect("250 2.0.0 Chunk")
		c.expect(mixed...)
		open("DATA\r\n")
		c.expect("354 ")
		c.send(large + large + ".\r\n")
		for range mixed {
			c.expect("552 5.3.4 <")
		}
		c.dialogue("C: NOOP\nS: 250 2.0.0 Ok")
		for _, account := range []string{"alice@example.org", "carol@example.org"} {
			h.wantBodies(t, account, large, "b\r\n\r\n")
		}
	}
}
