package smtp

import (
	"strings"
	"testing"

	"mailraft/proxy"
)

func TestCapabilities(t *testing.T) {
	h := newHouse(t)
	serverTLS, _ := tlsConfigs(t)
	for _, c := range []struct {
		cfg         Config
		hello, want string
	}{
		{Config{}, "EHLO", "220 mx.example.org ESMTP Mailraft\n250-mx.example.org\n250-PIPELINING\n250-SIZE 52428800\n" +
			"250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n250 ENHANCEDSTATUSCODES"},
		{Config{TLSConfig: serverTLS, MaxMessageBytes: 7}, "EHLO", "220 mx.example.org ESMTP Mailraft\n250-mx.example.org\n" +
			"250-PIPELINING\n250-SIZE 7\n250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n250-STARTTLS\n250 ENHANCEDSTATUSCODES"},
		{Config{LMTP: true}, "LHLO", "220 mx.example.org LMTP Mailraft\n250-mx.example.org\n250-PIPELINING\n250-SIZE 52428800\n" +
			"250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n250 ENHANCEDSTATUSCODES"},
		{Config{}, "HELO", "220 mx.example.org ESMTP Mailraft\n250 mx.example.org"},
	} {
		_, address := run(t, c.cfg, h)
		cl := dial(t, address)
		got := cl.reply()
		cl.send(c.hello + " client.example\r\n")
		if got += "\n" + cl.reply(); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.hello, got, c.want)
		}
	}
}

func TestDialogues(t *testing.T) {
	h := newHouse(t, "alice@example.org", "postmaster@example.org")
	h.errs["full@example.org"] = proxy.ErrOverQuota
	h.errs["slow@example.org"] = proxy.ErrTemporary
	h.aliases["nobody@example.org"] = nil
	h.errs["postmaster@mx.example.org"] = nil
	h.aliases["ünïcode@example.org"] = []string{"alice@example.org"}
	h.aliases["a b@example.org"] = []string{"alice@example.org"}
	_, smtpAddress := run(t, Config{MaxRecipients: 3, MaxBadCommands: 100}, h)
	_, lmtpAddress := run(t, Config{LMTP: true}, h)

	for name, script := range map[string]string{
		"order": `
			C: MAIL FROM:<a@example.com>
			S: 503 5.5.1
			C: RCPT TO:<alice@example.org>
			S: 503 5.5.1
			C: DATA
			S: 503 5.5.1
			C: EHLO client.example
			S: 250-
			C: RCPT TO:<alice@example.org>
			S: 503 5.5.1
			C: MAIL FROM:<a@example.com>
			S: 250 2.1.0
			C: MAIL FROM:<a@example.com>
			S: 503 5.5.1
			C: DATA
			S: 503 5.5.1
			C: RCPT TO:<nobody.here@example.org>
			S: 550 5.1.1
			C: DATA
			S: 503 5.5.1
			C: RSET
			S: 250 2.0.0
			C: RCPT TO:<alice@example.org>
			S: 503 5.5.1
			C: MAIL FROM:<a@example.com>
			S: 250 2.1.0
			C: EHLO client.example
			S: 250-
			C: RCPT TO:<alice@example.org>
			S: 503 5.5.1
			C: QUIT
			S: 221 2.0.0`,
		"small commands": `
			C: NOOP anything
			S: 250 2.0.0
			C: noop
			S: 250 2.0.0
			C: VRFY alice
			S: 252 2.5.2
			C: EXPN list
			S: 502 5.5.1
			C: HELP
			S: 214 2.0.0
			C: AUTH PLAIN AGEAYg==
			S: 502 5.5.1
			C: STARTTLS
			S: 502 5.5.1
			C: STARTTLS now
			S: 501 5.5.4
			C: RSET now
			S: 501 5.5.4
			C: QUIT now
			S: 501 5.5.4
			C: STARTTLSX
			S: 500 5.5.1
			C: XYZZY
			S: 500 5.5.1
			C: LHLO client.example
			S: 500 5.5.1
			C: EHLO
			S: 501 5.5.4
			C: EHLO two words
			S: 501 5.5.4
			C: EHLO (comment)
			S: 501 5.5.4
			C: EHLO clïent.example
			S: 501 5.5.4
			C: EHLO [IPv6:2001:db8::1]
			S: 250-`,
		"recipients": `
			C: EHLO client.example
			S: 250-
			C: mail from: <> size=1000 body=8bitmime
			S: 250 2.1.0
			C: RCPT TO:<bob@example.org>
			S: 550 5.1.1
			C: RCPT TO:<bob@elsewhere.example>
			S: 550 5.7.1
			C: RCPT TO:<full@example.org>
			S: 452 4.2.2
			C: RCPT TO:<slow@example.org>
			S: 451 4.3.0
			C: RCPT TO:<nobody@example.org>
			S: 451 4.3.0
			C: RCPT TO:<>
			S: 501 5.1.3
			C: RCPT TO:alice@example.org
			S: 501 5.1.3
			C: RCPT TO:<alice>
			S: 501 5.1.3
			C: RCPT TO:<alice@example.org> NOTIFY=NEVER
			S: 555 5.5.4
			C: RCPT TO:<ünïcode@example.org>
			S: 553 5.6.7
			C: RCPT TO:<"al\ice"@example.org>
			S: 250 2.1.5
			C: RCPT TO:<@relay.example,@other.example:alice@example.org>
			S: 250 2.1.5
			C: RCPT TO:<"a b"@example.org>
			S: 250 2.1.5
			C: RCPT TO:<alice@example.org>
			S: 452 4.5.3`,
		"postmaster": `
			C: EHLO client.example
			S: 250-
			C: MAIL FROM:<Postmaster>
			S: 501 5.1.7
			C: MAIL FROM:<>
			S: 250 2.1.0
			C: RCPT TO:<Postmaster>
			S: 250 2.1.5
			C: RCPT TO:<pOSTMASTER>
			S: 250 2.1.5
			C: RCPT TO:<postmaster@example.org>
			S: 250 2.1.5`,
		"parameters": `
			C: EHLO client.example
			S: 250-
			C: MAIL FROM:<a@example.com> SIZE=52428801
			S: 552 5.3.4
			C: MAIL FROM:<a@example.com> SIZE=99999999999999999999
			S: 552 5.3.4
			C: MAIL FROM:<a@example.com> SIZE=-1
			S: 501 5.5.4
			C: MAIL FROM:<a@example.com> SIZE
			S: 501 5.5.4
			C: MAIL FROM:<a@example.com> BODY=BINARYMIME
			S: 501 5.5.4
			C: MAIL FROM:<a@example.com> SMTPUTF8=1
			S: 501 5.5.4
			C: MAIL FROM:<a@example.com> RET=FULL
			S: 555 5.5.4
			C: MAIL FROM:<a@example.com>SIZE=1
			S: 501 5.1.7
			C: MAIL FROM:<ä@example.com>
			S: 553 5.6.7
			C: MAIL FROM:<ä@example.com> SMTPUTF8
			S: 250 2.1.0
			C: RCPT TO:<ünïcode@example.org>
			S: 250 2.1.5`,
		"lmtp": `
			C: EHLO client.example
			S: 500 5.5.1
			C: HELO client.example
			S: 500 5.5.1
			C: LHLO client.example
			S: 250-
			C: MAIL FROM:<a@example.com>
			S: 250 2.1.0
			C: DATA
			S: 503 5.5.1`,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, smtpAddress)
			if name == "lmtp" {
				c = dial(t, lmtpAddress)
			}
			c.expect("220 mx.example.org ")
			c.dialogue(script)
		})
	}
}

// What is not a line of text is not a command, and its remains are not one either.
func TestMalformedLines(t *testing.T) {
	_, address := run(t, Config{MaxBadCommands: 100}, newHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	for _, line := range []string{"", " ", "NO\x00OP", "NOOP\r", "QUIT\rQUIT", "\xff\xfe", strings.Repeat("x", 2047)} {
		c.send(line + "\r\n")
		c.expect("500 5.5.")
	}
	c.send(strings.Repeat("QUIT ", 100_000) + "\r\nNOOP " + strings.Repeat("x", 2048-7) + "\r\nNOOP " + strings.Repeat("x", 2048-6) + "\r\nNOOP\r\n")
	c.expect("500 5.5.2 Line too long", "250 2.0.0", "500 5.5.2 Line too long", "250 2.0.0")

	for _, line := range []string{"NOOP\nNOOP\r\n", "\nNOOP\r\n", "NOOP\r\r\nNOOP\n", "BDAT 6 LAST\nQUIT\r\n"} {
		c := dial(t, address)
		c.expect("220 ")
		c.send(line)
		got := c.reply()
		if strings.Contains(line, "\r\r\n") {
			got = c.reply()
		}
		if !strings.HasPrefix(got, "500 5.5.2 Lines end") {
			t.Errorf("%q: %s", line, got)
		}
		c.expectEnd() // what stands behind a bare LF is no command
	}
}

func TestTooManyBadCommands(t *testing.T) {
	_, address := run(t, Config{MaxBadCommands: 3}, newHouse(t))
	c := dial(t, address)
	c.expect("220 ")
	c.send("X\r\nNOOP\r\nMAIL\r\n\r\nNOOP\r\n")
	c.expect("500 ", "250 ", "503 ", "500 ", "421 4.7.0")
	c.expectEnd()
}

// Nobody can go on trying addresses until one is found; whoever has many old ones comes back with those that are left.
func TestTooManyRefusedRecipients(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	for _, lmtp := range []bool{false, true} {
		_, address := run(t, Config{MaxRefusedRecipients: 3, LMTP: lmtp}, h)
		c := dial(t, address)
		c.expect("220 ")
		c.dialogue(map[bool]string{false: "C: EHLO a\nS: 250-", true: "C: LHLO a\nS: 250-"}[lmtp])
		c.dialogue("C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<a@example.org>\nS: 550 5.1.1\nC: RCPT TO:<alice@example.org>\nS: 250\nC: RSET\nS: 250")
		c.send("MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<alice@example.net>\r\n")
		c.expect("250 ", "550 5.1.1", "550 5.7.1")
		if lmtp {
			c.dialogue("C: RCPT TO:<c@example.org>\nS: 550 5.1.1\nC: NOOP\nS: 250")
			continue
		}
		c.expect("421 4.7.0")
		c.expectEnd()
	}
}

// A group of commands in one packet has its replies in one packet (RFC 2920, 3.2).
func TestPipelining(t *testing.T) {
	h := newHouse(t, "alice@example.org")
	_, address := run(t, Config{}, h)
	c := dial(t, address)
	c.expect("220 ")
	c.dialogue("C: EHLO client.example\nS: 250-")
	c.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
	packet := make([]byte, 4096)
	n, err := c.Read(packet)
	if err != nil || strings.Count(string(packet[:n]), "\r\n") != 4 {
		t.Errorf("%q, %v", packet[:n], err)
	}
	c.send("one\r\n.\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
	c.expect("250 2.0.0", "250 2.1.0", "250 2.1.5", "354 ")
	c.send("two\r\n.\r\nQUIT\r\n")
	c.expect("250 2.0.0", "221 ")
	c.expectEnd()
	h.wantBodies(t, "alice@example.org", "one\r\n", "two\r\n")
}
