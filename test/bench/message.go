package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

var words = strings.Fields(`the of and to a in is that for it as was with be by on not he his but at are this have from or had an they
which one you were her all she there would their we him been has when who will more no if out so said what up its about into than them
can only other new some could time these two may then do first any my now such like our over man me even most made after also did many
before must through back years where much your way well down should because each just those people mister how too little state good
very make world still own see men work long get here between both life being under never day same another know while last might us`)

// message makes a message of exactly size octets with CRLF line ends: headers, half of it words, half an attachment that does not
// compress.
func message(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(size)))
	var b strings.Builder
	fmt.Fprintf(&b, "From: Bench <bench@example.net>\r\nTo: someone@bench.test\r\nSubject: Message %d of %d octets\r\n"+
		"Message-ID: <%d.%d@example.net>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=us-ascii\r\n\r\n", seed, size, seed, size)
	for b.Len() < size/2 {
		line := words[r.IntN(len(words))]
		for len(line) < 66 {
			line += " " + words[r.IntN(len(words))]
		}
		b.WriteString(line + "\r\n")
	}
	raw := make([]byte, 54)
	for b.Len() < size {
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + "\r\n")
	}
	out := []byte(b.String())[:size]
	if size >= 2 {
		copy(out[size-2:], "\r\n")
		if size >= 3 && out[size-3] == '\r' {
			out[size-3] = '='
		}
	}
	return out
}
