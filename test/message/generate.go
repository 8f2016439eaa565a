package message

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Seed is what Generated's messages are made from.
const Seed = 4

// Generated is every well-formed and every hostile message, and as many random ones as are asked for. Their names differ.
func Generated(random int) []Message {
	g := generator{rand.New(rand.NewPCG(Seed, Seed))}
	all := g.wellFormed()
	all = append(all, g.hostile()...)
	for i := range random {
		all = append(all, Message{fmt.Sprintf("random %d", i), g.random()})
	}
	return all
}

// generator makes messages from a seeded source.
type generator struct{ *rand.Rand }

// Text is a plain well-formed message of about so many octets, which seed makes different from others.
func Text(seed uint64, octets int) []byte {
	g := generator{rand.New(rand.NewPCG(Seed, seed))}
	head := g.header(fmt.Sprintf("text %d", seed)) + "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
	return []byte(head + g.text(max(0, octets-len(head))))
}

// words are what texts are made of.
var words = strings.Fields(`the of and to in that it is was for on as with his he be at by had not are but from or have an they
	which one you were all her she there would their we him been has when who will no more if out so up said what its about than
	into them can only other time new some could these two may first then do any like my now over such our man me even most made
	after also did many off before must well back through years much where your way down should because long each just state
	people those too mr how little good world make very year still see own work men day get here old life both between being under`)

// line is a line of words of at most n octets, without its end. It is not empty unless n is.
func (g generator) line(n int) string {
	var b strings.Builder
	for b.Len() < n {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[g.IntN(len(words))])
	}
	return strings.TrimRight(b.String()[:n], " ") + strings.Repeat("x", n-len(strings.TrimRight(b.String()[:n], " ")))
}

// text is about n octets of lines of words that end in CRLF.
func (g generator) text(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(g.line(1 + g.IntN(76)))
		b.WriteString("\r\n")
	}
	return b.String()
}

// octets are n octets of any value.
func (g generator) octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// header is what every decent message begins with.
func (g generator) header(subject string) string {
	return fmt.Sprintf("Date: Mon, %02d Jan 2024 %02d:%02d:%02d +0000\r\nFrom: %s <sender%d@sender.example>\r\nTo: recipient@example.org\r\n"+
		"Subject: %s\r\nMessage-ID: <%016x@sender.example>\r\n", 1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(60), g.line(8), g.IntN(1000), subject, g.Uint64())
}

// mime is a decent header with the field that makes it MIME.
func (g generator) mime(subject string) string { return g.header(subject) + "MIME-Version: 1.0\r\n" }
