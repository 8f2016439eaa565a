package smtp

import (
	"crypto/tls"
	"net"
	"time"
)

// trace is what the lines that are put before a message tell of its way in.
type trace struct {
	helo     string
	remote   net.Addr
	hostname string
	protocol string // RFC 3848, RFC 6531: what stands behind "with"
	tls      *tls.ConnectionState
	id       string
	from     path
	at       time.Time
}

// appendTo appends the trace lines of one recipient's copy: Return-Path and Received (RFC 5321, 4.4), and between them
// Delivered-To (RFC 9228). As every copy has its own, "for" betrays no other recipient.
func (t *trace) appendTo(b []byte, account string, recipient path) []byte {
	b = append(b, "Return-Path: <"...)
	b = append(b, t.from.String()...)
	b = append(b, ">\r\nDelivered-To: "...)
	b = append(b, account...)
	b = append(b, "\r\nReceived: from "...)
	b = append(b, t.helo...)
	if literal := addressLiteral(t.remote); literal != "" {
		b = append(b, " ("...)
		b = append(b, literal...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	b = append(b, t.hostname...)
	b = append(b, " with "...)
	b = append(b, t.protocol...)
	b = append(b, " id "...)
	b = append(b, t.id...)
	if t.tls != nil {
		b = append(b, "\r\n\t("...)
		b = append(b, tls.VersionName(t.tls.Version)...)
		b = append(b, ' ')
		b = append(b, tls.CipherSuiteName(t.tls.CipherSuite)...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tfor <"...)
	b = append(b, recipient.String()...)
	b = append(b, ">;\r\n\t"...)
	b = t.at.AppendFormat(b, dateFormat)
	return append(b, "\r\n"...)
}

// dateFormat is the date-time of RFC 5322, 3.3.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700"

// addressLiteral writes a TCP peer's address as RFC 5321, 4.1.3 does; "" for a Unix socket.
func addressLiteral(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	if ip := tcp.IP.To4(); ip != nil {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + tcp.IP.String() + "]"
}

// protocolName is the transmission type (RFC 3848; RFC 6531, 4.3).
func protocolName(lmtp, extended, utf8, encrypted, authenticated bool) string {
	name := "SMTP"
	switch {
	case lmtp:
		name = "LMTP"
	case !extended && !utf8:
		return name // HELO: no letters are registered for it
	case !utf8:
		name = "ESMTP"
	}
	if utf8 {
		name = "UTF8" + name
	}
	if encrypted {
		name += "S"
	}
	if authenticated {
		name += "A"
	}
	return name
}
