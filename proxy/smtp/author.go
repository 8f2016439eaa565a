package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-message/textproto"

	"mailraft/proxy"
)

// A submitted message is from who has logged in (RFC 6409, 6.1): its envelope's sender, and its author.

// isOwn says whether an address is the account's: its own, with a detail or without, or an alias that leads to it, be it to others too.
// The error is that of a look-up which cannot tell.
func (c *conn) isOwn(address path) (bool, error) {
	ctx, cancel := context.WithTimeout(c.server.context, c.cfg.LookUpTimeout)
	defer cancel()
	mailboxes, _, err := c.ask(ctx, address)
	account := c.login.Mailbox().Account
	switch {
	case slices.ContainsFunc(mailboxes, func(m proxy.Mailbox) bool { return m.Account == account }):
		return true, nil // even when there is no more room: who has no room can still write
	case err == nil, errors.Is(err, proxy.ErrNoSuchDomain), errors.Is(err, proxy.ErrNoSuchUser), errors.Is(err, proxy.ErrOverQuota):
		return false, nil
	}
	return false, err
}

// mustOwn is the reply to a message with a sender or an author; nil when the address is the account's.
func (c *conn) mustOwn(address path) *reply {
	own, err := c.isOwn(address)
	switch {
	case own:
		return nil
	case err != nil:
		c.cfg.Logger.Warn("cannot tell whose an address is", "address", address.String(), "error", err)
		return &replyTemporary
	}
	return &reply{550, "5.7.1", "<" + printable(address) + "> is not an address of the account"}
}

// printable is an address for a reply, which is ASCII unless the client has asked for more.
func printable(p path) string {
	if p.ascii() {
		return p.String()
	}
	return strings.Trim(strconv.QuoteToASCII(p.String()), `"`)
}

// The replies to a header that is not RFC 5322's.
var (
	replyHeader      = reply{550, "5.6.0", "Malformed header"}
	replyLargeHeader = reply{552, "5.3.4", fmt.Sprintf("Header is larger than %d KiB", chunkSize>>10)}
)

func replyField(name, problem string) *reply {
	return &reply{550, "5.6.0", problem + " " + name + " field"}
}

// checkHeader reads the header of a submitted message, and says why it is refused, or which lines it lacks (RFC 6409, 8.2 and 8.3).
//
// All addresses of the From field must be the account's, or if there are several that of the Sender field (RFC 5322, 3.6.2), and the
// Sender field must be in any case. What readers may take for different things is refused: fields that are there twice, and carriage
// returns that end no line.
func (c *conn) checkHeader(text []byte) (missing []byte, refusal *reply) {
	if bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n")) || bytes.IndexByte(text, 0) >= 0 {
		return nil, &replyHeader
	}
	header, err := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		return nil, &replyHeader
	}
	from, refusal := addresses(&header, "From")
	if refusal != nil {
		return nil, refusal
	}
	sender, refusal := addresses(&header, "Sender")
	switch {
	case refusal != nil:
		return nil, refusal
	case len(from) == 0:
		return nil, replyField("From", "No")
	case len(sender) > 1:
		return nil, replyField("Sender", "Several addresses in the")
	case len(sender) == 1:
		if refusal := c.mustOwn(sender[0]); refusal != nil {
			return nil, refusal
		}
	}
	if len(from) == 1 || len(sender) == 0 {
		for _, author := range from {
			if refusal := c.mustOwn(author); refusal != nil {
				return nil, refusal
			}
		}
	}
	now := time.Now()
	if !header.Has("Date") {
		missing = now.AppendFormat(missing, "Date: "+dateFormat+"\r\n")
	}
	if !header.Has("Message-Id") {
		missing = fmt.Appendf(missing, "Message-ID: <%x.%s@%s>\r\n", now.UnixNano(), c.mail.id, c.cfg.Hostname)
	}
	return missing, nil
}

// maxAuthors is how many addresses a From field may have: each of them costs a look-up.
const maxAuthors = 100

// addresses are those of a field that is there once at most; none for a field that is not there.
func addresses(header *textproto.Header, name string) ([]path, *reply) {
	fields := header.FieldsByKey(name)
	if !fields.Next() {
		return nil, nil
	}
	list, err := addressParser.ParseList(fields.Value())
	switch {
	case fields.Next():
		return nil, replyField(name, "More than one")
	case err != nil || len(list) == 0 || len(list) > maxAuthors:
		return nil, replyField(name, "Malformed")
	}
	var paths []path
	for _, a := range list {
		at := strings.LastIndexByte(a.Address, '@')
		if at < 0 {
			return nil, replyField(name, "Malformed")
		}
		p := path{a.Address[:at], a.Address[at+1:]}
		if len(a.Address) > maxPath || validText(p.local) != nil || !isDomain(p.domain) {
			return nil, replyField(name, "Malformed")
		}
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// addressParser leaves names alone, whatever charset they are in.
var addressParser = netmail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, name io.Reader) (io.Reader, error) { return name, nil },
}}
