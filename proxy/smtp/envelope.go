package smtp

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"mailraft/proxy"
	"mailraft/proxy/maildir"
)

// mail is a mail transaction (RFC 5321, 3.3): an envelope, and the message while it comes.
type mail struct {
	from       path
	utf8       bool // SMTPUTF8 was asked for
	recipients []*recipient
	transfer   *transfer // of the message, once that has begun
	id         string    // of the message
}

// recipient is an accepted RCPT.
type recipient struct {
	path      path
	mailboxes []proxy.Mailbox
	folder    string // where its detail leads; "" for INBOX
	copies    []*copyFor
}

// maxCopies is how many mailboxes a message may go to, once aliases are resolved.
const maxCopies = 1000

// resetMail ends the transaction, if there is one, without delivering.
func (c *conn) resetMail() {
	if c.mail != nil && c.mail.transfer != nil {
		c.mail.transfer.abort()
	}
	c.mail = nil
}

// greet is HELO, EHLO (RFC 5321, 4.1.1.1) and LHLO (RFC 2033, 4.1).
func (c *conn) greet(cmd command) {
	switch {
	case c.cfg.LMTP != (cmd.verb == "LHLO"):
		c.answer(reply{500, "5.5.1", "Not in this protocol"})
		return
	case !isDomain(cmd.arg) || !isASCII(cmd.arg): // RFC 6531, 3.7.1: A-labels here
		c.answer(reply{501, "5.5.4", "A domain or an address literal is needed"})
		return
	}
	c.resetMail()
	c.helo, c.extended = cmd.arg, cmd.verb != "HELO"
	if !c.extended {
		c.answer(reply{250, "", c.cfg.Hostname})
		return
	}
	for _, line := range []string{c.cfg.Hostname, "PIPELINING", "SIZE " + strconv.FormatInt(c.cfg.MaxMessageBytes, 10),
		"8BITMIME", "SMTPUTF8", "CHUNKING"} {
		c.out.WriteString("250-" + line + "\r\n")
	}
	if c.cfg.submission() && c.login == nil && c.mayLogIn() {
		c.out.WriteString("250-AUTH " + strings.Join(c.saslClient().Mechanisms(), " ") + "\r\n")
	}
	if c.cfg.TLSConfig != nil && c.tls == nil {
		c.out.WriteString("250-STARTTLS\r\n")
	}
	c.reply(reply{250, "", "ENHANCEDSTATUSCODES"})
}

// mailFrom is MAIL (RFC 5321, 4.1.1.2).
func (c *conn) mailFrom(arg string) reply {
	if c.helo == "" || c.mail != nil {
		return replySequence
	}
	if refusal := c.mustLogIn(); refusal != nil {
		return *refusal
	}
	from, params, err := parsePathArgument(arg, "FROM:")
	if err != nil || !from.isNull() && from.domain == "" {
		return reply{501, "5.1.7", "Malformed sender"}
	}
	m := &mail{from: from}
	for _, p := range params {
		switch {
		case p.key == "SIZE" && isNumber(p.value): // RFC 1870, 6
			size, err := strconv.ParseInt(p.value, 10, 64)
			if err != nil || size > c.cfg.MaxMessageBytes {
				c.cfg.Logger.Info("sender refused", "remote", c.remote.String(), "from", from.String(), "size", p.value, "reply", replyTooLarge.code,
					"status", replyTooLarge.enhanced)
				return replyTooLarge
			}
		case p.key == "BODY" && (strings.EqualFold(p.value, "7BIT") || strings.EqualFold(p.value, "8BITMIME")): // RFC 6152
		case p.key == "SMTPUTF8" && !p.given: // RFC 6531, 3.4
			m.utf8 = true
		case p.key == "AUTH" && c.cfg.submission() && p.value != "": // RFC 4954, 5: who wrote it is not believed, nor told
		case p.key == "AUTH" && c.cfg.submission(), p.key == "SIZE", p.key == "BODY", p.key == "SMTPUTF8":
			return reply{501, "5.5.4", "Malformed " + p.key + " parameter"}
		default:
			return reply{555, "5.5.4", "Parameter not recognized"}
		}
	}
	if !from.ascii() && !m.utf8 {
		return replyNeedsUTF8
	}
	// The null sender is that of a notification which a mail program sends on its owner's behalf (RFC 8098, 3); its author is checked.
	if c.login != nil && !from.isNull() {
		if refusal := c.mustOwn(from); refusal != nil {
			c.cfg.Logger.Info("sender refused", "remote", c.remote.String(), "account", c.login.Mailbox().Account, "from", from.String(),
				"reply", refusal.code, "status", refusal.enhanced)
			return *refusal
		}
	}
	c.mail = m
	return reply{250, "2.1.0", "Sender ok"}
}

// RFC 6531, 3.5.
var replyNeedsUTF8 = reply{553, "5.6.7", "This address needs SMTPUTF8"}

// rcptTo is RCPT (RFC 5321, 4.1.1.3).
func (c *conn) rcptTo(arg string) reply {
	if c.mail == nil || c.mail.transfer != nil {
		return replySequence
	}
	to, params, err := parsePathArgument(arg, "TO:")
	switch {
	case err != nil || to.isNull():
		return reply{501, "5.1.3", "Malformed recipient"}
	case len(params) > 0:
		return reply{555, "5.5.4", "Parameter not recognized"}
	case !to.ascii() && !c.mail.utf8:
		return replyNeedsUTF8
	case len(c.mail.recipients) >= c.cfg.MaxRecipients:
		return replyTooMany
	}
	r := &recipient{path: to}
	if refusal := c.lookUp(r); refusal != nil {
		return *refusal
	}
	if c.mail.copies()+len(r.mailboxes) > maxCopies {
		return replyTooMany
	}
	c.mail.recipients = append(c.mail.recipients, r)
	return reply{250, "2.1.5", "Recipient ok"}
}

// RFC 5321, 4.5.3.1.10.
var replyTooMany = reply{452, "4.5.3", "Too many recipients"}

// lookUp finds a recipient's mailboxes and folder.
func (c *conn) lookUp(r *recipient) *reply {
	ctx, cancel := context.WithTimeout(c.server.context, c.cfg.LookUpTimeout)
	defer cancel()
	mailboxes, detail, err := c.ask(ctx, r.path)
	if err == nil && len(mailboxes) == 0 {
		err = proxy.ErrTemporary // an alias for nobody: not what the sender did wrong
	}
	if err != nil {
		refusal, level := lookUpReply(err), slog.LevelInfo
		if c.login != nil && errors.Is(err, proxy.ErrNoSuchDomain) {
			refusal.text = "Mail to other hosts is not relayed yet, only to addresses here"
		}
		if refusal == replyTemporary {
			level = slog.LevelWarn
		}
		c.cfg.Logger.Log(ctx, level, "recipient refused", "remote", c.remote.String(), "from", c.mail.from.String(),
			"recipient", r.path.String(), "reply", refusal.code, "status", refusal.enhanced, "error", err)
		return &refusal
	}
	r.mailboxes = mailboxes
	// The detail of a plus-address names a folder of the one who gave the address out; there is none behind an alias for several.
	if folder := "." + detail; detail != "" && len(mailboxes) == 1 && maildir.FolderExists(mailboxes[0].Home, folder) {
		r.folder = folder
	}
	return nil
}

// ask looks a recipient up. The address that it asks for has a local part without quoting, whatever characters are in it; its domain
// is what stands behind the last "@". "<Postmaster>" is this host's, or when its name is no domain here, that of any which is.
func (c *conn) ask(ctx context.Context, to path) ([]proxy.Mailbox, string, error) {
	if to.domain != "" {
		return c.server.recipients.LookUp(ctx, to.local+"@"+to.domain)
	}
	mailboxes, detail, err := c.server.recipients.LookUp(ctx, to.local+"@"+c.cfg.Hostname)
	if errors.Is(err, proxy.ErrNoSuchDomain) {
		return c.server.recipients.LookUp(ctx, to.local)
	}
	return mailboxes, detail, err
}

// copies returns how many mailboxes the recipients have, doubles counted.
func (m *mail) copies() int {
	n := 0
	for _, r := range m.recipients {
		n += len(r.mailboxes)
	}
	return n
}

// address makes the copies: one for each mailbox, however many recipients lead to it. When one of them leads to a folder of the
// mailbox, the first that does so decides.
func (m *mail) address(t *trace) []*copyFor {
	copies := make([]*copyFor, 0, m.copies())
	byHome := make(map[string]*copyFor, cap(copies))
	for _, r := range m.recipients {
		for _, mailbox := range r.mailboxes {
			c := byHome[mailbox.Home]
			if c == nil {
				c = &copyFor{home: mailbox.Home, enclosed: mailbox.Enclosed, trace: t.appendTo(nil, mailbox.Account, r.path)}
				byHome[mailbox.Home] = c
				copies = append(copies, c)
			}
			if c.folder == "" {
				c.folder = r.folder
			}
			r.copies = append(r.copies, c)
		}
	}
	return copies
}
