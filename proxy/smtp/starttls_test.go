package smtp

import (
	"crypto/tls"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
)

func TestStartTLS(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	serverTLS, clientTLS := tlsConfigs(t)
	_, address := run(t, Config{TLSConfig: serverTLS}, h)
	c, err := gosmtp.DialStartTLS(address, clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		t.Error("offers STARTTLS over TLS")
	}
	if err := c.SendMail("a@example.com", []string{"alice@example.org"}, strings.NewReader(letter)); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	h.wantBodies(t, "alice@example.org", letter)
	if text := h.messages(t, "alice@example.org", "")[0]; !strings.Contains(text, " with ESMTPS id ") || !strings.Contains(text, "\r\n\t(TLS 1.3 TLS_") {
		t.Errorf("%q", text)
	}
}

// The handshake resets the dialogue (RFC 3207, 4.2), and broken messages and dots are the same behind it.
func TestDialogueOverTLS(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	serverTLS, clientTLS := tlsConfigs(t)
	_, address := run(t, Config{TLSConfig: serverTLS}, h)
	c := dial(t, address)
	c.envelope("alice@example.org")
	c.dialogue("C: STARTTLS\nS: 220 2.0.0")
	secured := tls.Client(c.Conn, clientTLS)
	if err := secured.Handshake(); err != nil {
		t.Fatal(err)
	}
	c = newClient(t, secured)
	c.dialogue(`
		C: DATA
		S: 503 5.5.1
		C: MAIL FROM:<a@example.com>
		S: 503 5.5.1
		C: EHLO client.example
		S: 250-
		C: STARTTLS
		S: 503 5.5.1
		C: MAIL FROM:<a@example.com>
		S: 250
		C: RCPT TO:<alice@example.org>
		S: 250
		C: DATA
		S: 354`)
	c.send("a\r\r\n..b\r\r\n.\r\n")
	c.expect("250 2.0.0")
	c.dialogue("C: MAIL FROM:<a@example.com>\nS: 250\nC: RCPT TO:<alice@example.org>\nS: 250")
	c.send("BDAT 10 LAST\r\nhalf")
	if err := secured.CloseWrite(); err != nil { // says that it is over, in good order
		t.Fatal(err)
	}
	c.expectEnd()
	h.wantBodies(t, "alice@example.org", "a\r\r\n.b\r\r\n")
}

// Commands behind STARTTLS in the same packet come from anybody (CVE-2011-0411).
func TestStartTLSInjection(t *testing.T) {
	serverTLS, _ := tlsConfigs(t)
	_, address := run(t, Config{TLSConfig: serverTLS}, newHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	c.dialogue("C: EHLO client.example\nS: 250-")
	c.send("STARTTLS\r\nMAIL FROM:<a@example.com>\r\n")
	c.expect("503 5.5.1")
	c.expectEnd()
}

func TestHandshakeFails(t *testing.T) {
	serverTLS, _ := tlsConfigs(t)
	_, address := run(t, Config{TLSConfig: serverTLS}, newHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	c.dialogue("C: STARTTLS\nS: 220 2.0.0")
	c.send("NOOP\r\nNOOP\r\nNOOP\r\n")
	// Nothing in plain text any more: an alert at most.
	rest := make([]byte, 1000)
	n, _ := c.r.Read(rest)
	if strings.Contains(string(rest[:n]), "250") {
		t.Errorf("%q", rest[:n])
	}
}
