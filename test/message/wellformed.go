package message

import (
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"
)

// wellFormed are messages that the RFCs allow.
func (g generator) wellFormed() []Message {
	all := []Message{
		{"plain", []byte(g.mime("plain") + "Content-Type: text/plain\r\n\r\n" + g.text(2000))},
		{"only a header", []byte(g.header("only a header"))},
		{"only a header and its end", []byte(g.header("only a header and its end") + "\r\n")},
		{"one octet of body", []byte(g.header("one octet of body") + "\r\nx\r\n")},
		{"one field", []byte("Subject: one field\r\n\r\nbody\r\n")},
		{"empty lines at the end", []byte(g.header("empty lines") + "\r\n" + g.text(100) + strings.Repeat("\r\n", 50))},
		{"only empty lines", []byte(g.header("only empty lines") + "\r\n" + strings.Repeat("\r\n", 1000))},
		{"dots at line starts", []byte(g.header("dots") + "\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n.\t\r\nx.\r\n.\r\n.\r\n")},
		{"dots only", []byte(g.header("dots only") + "\r\n" + strings.Repeat(".\r\n", 5000))},
		{"lines of 998", []byte(g.header("lines of 998") + "\r\n" + strings.Repeat(g.line(998)+"\r\n", 50))},
		{"mbox From lines", []byte(g.header("From") + "\r\nFrom someone@example.net Thu Jan  1 00:00:00 1970\r\n>From someone\r\n>>From\r\nFrom \r\n")},
		{"trailing white space", []byte(g.header("trailing white space ") + "\r\nline \r\nline\t\r\n \r\n\t\r\n")},
		{"format=flowed", []byte(g.mime("flowed") + "Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n" + g.flowed() + "-- \r\nsignature\r\n")},
		{"folded fields", []byte("Subject: folded\r\n over\r\n\tsome\r\n lines\r\nReferences:\r\n" + g.references(200) + "\r\n" + g.text(50))},
		{"8-bit body", []byte(g.mime("8-bit") + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nåäö ЖЗ 日本語 🦊\r\n")},
		{"UTF-8 header", []byte("From: Ж <жж@example.org>\r\nTo: 日本 <日本@example.org>\r\nSubject: 🦊 åäö\r\n\r\nRFC 6532\r\n")},
		{"encoded-words", []byte("From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nSubject: =?utf-8?B?w6XDpMO2?=\r\n =?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=\r\n\r\nbody\r\n")},
		{"quoted-printable", []byte(g.mime("qp") + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + g.quotedPrintable(3000) + "\r\n")},
		{"alternative", []byte(g.mime("alternative") + g.multipart("alternative", g.part("text/plain", g.text(300)), g.part("text/html", "<p>"+g.text(300)+"</p>\r\n")))},
		{"preamble and epilogue", []byte(g.mime("preamble") + strings.Replace(g.multipart("mixed", g.part("text/plain", g.text(50))), "\r\n\r\n", "\r\n\r\nThis is the preamble.\r\n", 1) + "The epilogue.\r\n")},
		{"message/rfc822", []byte(g.mime("forwarded") + g.multipart("mixed", g.part("text/plain", g.text(100)), g.part("message/rfc822", g.mime("inner")+g.multipart("mixed", g.part("text/plain", g.text(200))))))},
		{"report", []byte(g.mime("report") + g.multipart("report", g.part("text/plain", g.text(100)), g.part("message/delivery-status", "Reporting-MTA: dns; a.example\r\n\r\nFinal-Recipient: rfc822; b@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n"), g.part("text/rfc822-headers", g.header("returned"))))},
		{"many small attachments", []byte(g.mime("many") + g.multipart("mixed", g.attachments(100, 500)...))},
		{"100 KiB attachment", []byte(g.mime("100 KiB") + g.multipart("mixed", g.part("text/plain", g.text(100)), g.attachment(100<<10)))},
		{"3 MiB attachment", []byte(g.mime("3 MiB") + g.multipart("mixed", g.part("text/plain", g.text(100)), g.attachment(3<<20)))},
		{"9 MiB text", []byte(g.mime("9 MiB") + "\r\n" + g.text(9<<20))},
		{"compressible MiB", []byte(g.mime("zeros") + "\r\n" + strings.Repeat(strings.Repeat("0", 76)+"\r\n", 20_000))},
	}
	// Sizes beside those at which something may be cut, held or moved elsewhere.
	for _, n := range []int{511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		all = append(all, Message{fmt.Sprintf("%d octets", n), []byte(g.exactly(n))})
	}
	return all
}

// exactly is a message of n octets.
func (g generator) exactly(n int) string {
	head := "Subject: exactly\r\n\r\n"
	text := g.text(n)
	for {
		m := head + text
		if len(m) >= n {
			return m[:n-2] + "\r\n"
		}
		text += g.text(n)
	}
}

// flowed is text whose lines end in the space of RFC 3676.
func (g generator) flowed() string {
	var b strings.Builder
	for i := range 40 {
		b.WriteString(strings.Repeat(">", i%4) + g.line(40) + " \r\n")
	}
	return b.String()
}

func (g generator) references(n int) string {
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, " <%016x@example.org>\r\n", g.Uint64())
	}
	return b.String()
}

func (g generator) quotedPrintable(n int) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	w.Write(g.octets(n)) // a strings.Builder takes everything
	w.Close()
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "\r\n", "\n"), "\n", "\r\n")
}

// part is a body part without a boundary.
func (g generator) part(mediaType, body string) string {
	return "Content-Type: " + mediaType + "\r\n\r\n" + body
}

// attachment is a part of n random octets in base64.
func (g generator) attachment(n int) string {
	text := base64.StdEncoding.EncodeToString(g.octets(n))
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: application/octet-stream; name=\"a%d.bin\"\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n", n)
	for len(text) > 0 {
		k := min(76, len(text))
		b.WriteString(text[:k] + "\r\n")
		text = text[k:]
	}
	return b.String()
}

func (g generator) attachments(n, size int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = g.attachment(size)
	}
	return all
}

// multipart is the field and the body of an entity of that subtype.
func (g generator) multipart(subtype string, parts ...string) string {
	boundary := fmt.Sprintf("=_%016x", g.Uint64())
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"\r\n\r\n", subtype, boundary)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.String()
}
