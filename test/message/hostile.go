package message

import (
	"fmt"
	"strings"
)

// hostile are messages that no standard allows, or that only mean harm.
func (g generator) hostile() []Message {
	all := []Message{
		{"empty", nil},
		{"one CRLF", []byte("\r\n")},
		{"one LF", []byte("\n")},
		{"one CR", []byte("\r")},
		{"one NUL", []byte("\x00")},
		{"one octet", []byte("x")},
		{"one dot", []byte(".")},
		{"a dot a line", []byte(".\r\n")},
		{"no final line end", []byte(g.header("no end") + "\r\nlast line without an end")},
		{"final CR", []byte(g.header("final CR") + "\r\nlast line\r")},
		{"final CR LF LF", []byte(g.header("final LF") + "\r\nlast line\r\n\n")},
		{"no header", []byte("\r\n" + g.text(200))},
		{"no header and no empty line", []byte(g.text(200))},
		{"begins with white space", []byte(" folded what?\r\n\tand again\r\nSubject: late\r\n\r\nbody\r\n")},
		{"mbox From line first", []byte("From sender@sender.example Thu Jan  1 00:00:00 1970\r\n" + g.header("From first") + "\r\nbody\r\n")},
		{"trace lines of others", []byte("Return-Path: <forged@sender.example>\r\nDelivered-To: forged@example.org\r\nReceived: from x\r\n\tby y; Mon, 1 Jan 2024 00:00:00 +0000\r\n" + g.header("trace") + "\r\nbody\r\n")},

		{"all LF", []byte(strings.ReplaceAll(g.header("all LF")+"\r\n"+g.text(2000), "\r\n", "\n"))},
		{"all CR", []byte(strings.ReplaceAll(g.header("all CR")+"\r\n"+g.text(2000), "\r\n", "\r"))},
		{"CR LF mixed", []byte(g.mixedEnds(g.header("mixed") + "\r\n" + g.text(5000)))},
		{"CRs before LF", []byte(g.header("CRs") + "\r\na\r\r\nb\r\r\r\nc\n\rd\r\n\re\r\n")},
		{"LF dot LF", []byte(g.header("smuggling") + "\r\na\n.\nMAIL FROM:<x@sender.example>\nRCPT TO:<y@example.org>\nDATA\nb\r\n")},
		{"LF dot CRLF", []byte(g.header("smuggling") + "\r\na\n.\r\nQUIT\r\nb\r\n")},
		{"CR dot CR", []byte(g.header("smuggling") + "\r\na\r.\rQUIT\rb\r\n")},
		{"CRLF dot CR", []byte(g.header("smuggling") + "\r\na\r\n.\rQUIT\r\n.\r.\r\nb\r\n")},

		{"NULs", []byte(g.header("NULs") + "\r\na\x00b\r\n\x00\r\n" + strings.Repeat("\x00", 5000) + "\r\n")},
		{"NUL in the header", []byte("Subject: a\x00b\r\nX\x00Y: z\r\n\r\nbody\r\n")},
		{"every octet", everyOctet()},
		{"random octets", g.octets(20_000)},
		{"8-bit header", []byte("From: \xe5\xe4\xf6 <x@example.org>\r\nSubject: \xff\xfe\x80\r\n\r\nbody \xe5\r\n")},
		{"broken UTF-8", []byte("Subject: \xc3\x28 \xed\xa0\x80 \xf8\x88\x80\x80\x80 \xc0\x80\r\n\r\n\xe2\x82\r\n")},

		{"line of 999", []byte(g.header("999") + "\r\n" + g.line(999) + "\r\n")},
		{"line of 100k", []byte(g.header("100k") + "\r\n" + g.line(100_000) + "\r\nend\r\n")},
		{"line of 2 MiB", []byte(g.header("2 MiB") + "\r\n" + g.line(2<<20) + "\r\nend\r\n")},
		{"header line of 100k", []byte("Subject: " + g.line(100_000) + "\r\n\r\nbody\r\n")},
		{"field of 1 MiB, folded", []byte("Subject: x\r\n" + strings.Repeat(" "+g.line(70)+"\r\n", 14_000) + "\r\nbody\r\n")},
		{"5,000 fields", []byte(g.fields(5000) + "\r\nbody\r\n")},
		{"field names of 10k", []byte(strings.Repeat("X", 10_000) + ": y\r\n\r\nbody\r\n")},
		{"lines without a colon", []byte("Subject: x\r\nno colon here\r\n: no name\r\n \r\nX :y\r\n\r\nbody\r\n")},
		{"duplicated fields", []byte(strings.Repeat(g.header("again")+"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n", 5) + "\r\n--b\r\n\r\nbody\r\n--b--\r\n")},
		{"unfinished encoded-words", []byte("Subject: =?utf-8?Q?never\r\nFrom: =?utf-8?B?====?= <x@example.org>\r\nTo: =??Q??= =?a?b?c?=\r\nCc: =?utf-8?B?w6U\r\n =?=\r\n\r\nbody\r\n")},
		{"broken addresses", []byte("From: <<<>>>\"\r\nTo: a@b@c, ,,; group: (((( )\r\nReply-To: \"\\\r\nSender: @\r\nDate: yesterday\r\nMessage-ID: none\r\n\r\nbody\r\n")},
		{"deep comments", []byte("From: " + strings.Repeat("(", 20_000) + " x@example.org\r\n\r\nbody\r\n")},

		{"boundary never closed", []byte(g.mime("open") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nbody\r\n")},
		{"boundary never used", []byte(g.mime("unused") + "Content-Type: multipart/mixed; boundary=b\r\n\r\nbody\r\n--c\r\n\r\nx\r\n")},
		{"no boundary", []byte(g.mime("none") + "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nbody\r\n----\r\n")},
		{"empty boundary", []byte(g.mime("none") + "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nbody\r\n----\r\n")},
		{"boundary of 5,000", []byte(g.mime("long") + "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 5000) + "\r\n\r\n--" + strings.Repeat("b", 5000) + "\r\n\r\nbody\r\n")},
		{"boundary within a boundary", []byte(g.mime("prefix") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--b--\r\n--bb--\r\n")},
		{"closed twice", []byte(g.mime("twice") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny\r\n--b--\r\n")},
		{"boundary at the end without a line end", []byte(g.mime("end") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--")},
		{"100 deep", []byte(g.mime("100 deep") + g.nested(100, "mixed"))},
		{"100 messages deep", []byte(g.messages(100))},
		{"5,000 parts", []byte(g.mime("5,000 parts") + g.multipart("mixed", repeat(5000, g.part("text/plain", "x\r\n"))...))},
		{"empty parts", []byte(g.mime("empty parts") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n", 1000) + "--b--\r\n")},
		{"broken base64", []byte(g.mime("broken") + "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!! not base64 \x00\xff\r\nQUJD=QUJD\r\n")},
		{"broken quoted-printable", []byte(g.mime("broken") + "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=\r\n=Z=ZZ=\xff= \r\n=A")},
		{"unknown encoding and charset", []byte(g.mime("unknown") + "Content-Type: text/plain; charset=no-such\r\nContent-Transfer-Encoding: x-secret\r\n\r\nbody\r\n")},
		{"base64 around a message", []byte(g.mime("b64") + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeAoKeQo=\r\n")},
		{"broken parameters", []byte(g.mime("params") + "Content-Type: text/plain; charset; =; name=\"unclosed; x*0*=utf-8''%zz; x*1=\r\nContent-Disposition: ;;;\r\n\r\nbody\r\n")},
		{"IMAP literals in fields", []byte("Subject: {100}\r\nFrom: \"a\\\"b\" {5+}\r\n <x@example.org>\r\n\r\n{3}\r\n* BYE\r\na OK\r\n")},
		{"POP3 ends in lines", []byte(g.header("pop") + "\r\n+OK\r\n-ERR\r\n.\r\n..\r\n+OK 1 messages\r\n.\r\n")},
	}
	return all
}

// mixedEnds gives each line of a text one of the three ends.
func (g generator) mixedEnds(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(text, "\r\n") {
		b.WriteString(line)
		b.WriteString([]string{"\r\n", "\n", "\r"}[g.IntN(3)])
	}
	return b.String()
}

func everyOctet() []byte {
	b := []byte("Subject: every octet\r\n\r\n")
	for c := range 256 {
		b = append(b, byte(c), 'x', byte(c), byte(c))
	}
	return append(b, '\r', '\n')
}

func (g generator) fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Field-%d: %s\r\n", i, g.line(30))
	}
	return b.String()
}

// nested is a multipart in a multipart in a multipart...
func (g generator) nested(depth int, subtype string) string {
	if depth == 0 {
		return g.part("text/plain", "the innermost\r\n")
	}
	return g.multipart(subtype, g.nested(depth-1, subtype))
}

// messages is a message in a message in a message...
func (g generator) messages(depth int) string {
	if depth == 0 {
		return g.header("the innermost") + "\r\nbody\r\n"
	}
	return g.mime("outer") + "Content-Type: message/rfc822\r\n\r\n" + g.messages(depth-1)
}

func repeat(n int, part string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = part
	}
	return all
}
