package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message/textproto"

	"mailraft/proxy/imap/mimetree"
)

// maxEnvelopeField bounds, in bytes, the header fields that are parsed for an envelope.
const maxEnvelopeField = 64 << 10

var envelopeFields = []string{"Date", "Subject", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "In-Reply-To", "Message-Id"}

// envelope reads a message's envelope (RFC 9051, 2.3.5). The library's helper parses well-formed fields; it gets no others lines,
// for it gives up on headers that have any. Address lists and message IDs that it cannot read are read leniently.
func envelope(m *mimetree.Part) *imap.Envelope {
	var h textproto.Header
	for _, name := range envelopeFields {
		if v := m.Field(name); v != "" && len(v) <= maxEnvelopeField {
			h.Set(name, text(v))
		}
	}
	e := imapserver.ExtractEnvelope(h)
	for _, list := range []struct {
		field     string
		addresses *[]imap.Address
	}{
		{"From", &e.From}, {"Sender", &e.Sender}, {"Reply-To", &e.ReplyTo}, {"To", &e.To}, {"Cc", &e.Cc}, {"Bcc", &e.Bcc},
	} {
		if len(*list.addresses) == 0 {
			*list.addresses = looseAddresses(h.Get(list.field))
		}
	}
	if e.MessageID == "" {
		e.MessageID = strings.Trim(h.Get("Message-Id"), " <>")
	}
	return e
}

// looseAddresses picks the addresses out of a malformed list.
func looseAddresses(list string) []imap.Address {
	var out []imap.Address
	for len(list) > 0 && len(out) < 1000 {
		var one string
		one, list, _ = strings.Cut(list, ",")
		name, address := "", strings.TrimSpace(one)
		if before, after, ok := strings.Cut(one, "<"); ok {
			name = strings.Trim(before, " \t\"")
			address, _, _ = strings.Cut(after, ">")
		}
		i := strings.LastIndexByte(address, '@')
		if i <= 0 {
			continue
		}
		out = append(out, imap.Address{Name: name, Mailbox: address[:i], Host: strings.TrimSpace(address[i+1:])})
	}
	return out
}
