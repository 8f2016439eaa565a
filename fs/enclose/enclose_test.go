package enclose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var head = Head{Address: "alice@example.org", Date: time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600)), ID: "mailraft.34359738400"}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func reader(t *testing.T, sealed []byte, h Head) *Reader {
	t.Helper()
	r, err := New(bytes.NewReader(sealed), int64(len(sealed)), h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sizes are those around the ends of lines, and of batches of them.
var sizes = []int{0, 1, 2, 3, 56, 57, 58, 113, 114, 115, 200, 1000, batch*lineRaw - 1, batch * lineRaw, batch*lineRaw + 1, 3*batch*lineRaw + 100}

// What is read is a message as others read it, and has the sealed octets.
func TestMessage(t *testing.T) {
	for _, size := range sizes {
		sealed := random(size)
		r := reader(t, sealed, head)
		whole, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
		if err != nil || int64(len(whole)) != r.Size() || r.Size() != Size(int64(size)) {
			t.Fatalf("%d: %d octets, %d are told, %v", size, len(whole), r.Size(), err)
		}
		if bytes.Contains(bytes.ReplaceAll(whole, []byte("\r\n"), nil), []byte("\n")) {
			t.Errorf("%d: a line feed alone", size)
		}
		m, err := mail.ReadMessage(bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		if date, err := m.Header.Date(); err != nil || !date.Equal(head.Date) {
			t.Errorf("date %v, %v", date, err)
		}
		if from, err := m.Header.AddressList("From"); err != nil || len(from) != 1 || from[0].Address != head.Address {
			t.Errorf("from %v, %v", from, err)
		}
		if id := m.Header.Get("Message-ID"); id != "<mailraft.34359738400@example.org>" {
			t.Errorf("message id %q", id)
		}
		kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/mixed" {
			t.Fatal(kind, err)
		}
		parts := multipart.NewReader(m.Body, params["boundary"])
		text, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := io.ReadAll(text); !strings.Contains(string(said), "age -d -i key.txt message.age") {
			t.Errorf("the words: %q", said)
		}
		attached, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if attached.FileName() != "message.age" {
			t.Errorf("attached as %q", attached.FileName())
		}
		got, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, attached))
		if err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("%d: %d octets are attached, %v", size, len(got), err)
		}
		if _, err := parts.NextPart(); err != io.EOF {
			t.Errorf("a third part: %v", err)
		}
	}
}

// Any part reads as it is in the whole.
func TestEveryOffset(t *testing.T) {
	for _, size := range sizes {
		r := reader(t, random(size), head)
		whole, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
		if err != nil {
			t.Fatal(err)
		}
		check := func(off, n int) {
			t.Helper()
			b := make([]byte, n)
			got, err := r.ReadAt(b, int64(off))
			want := whole[min(off, len(whole)):min(off+n, len(whole))]
			if !bytes.Equal(b[:got], want) || (err == io.EOF) != (len(want) < n) || err != nil && err != io.EOF {
				t.Fatalf("size %d: %d octets at %d: %d, %v", size, n, off, got, err)
			}
		}
		rng := rand.New(rand.NewPCG(3, uint64(size)))
		if len(whole) < 10_000 {
			for off := range len(whole) + 2 {
				check(off, 1)
				check(off, rng.IntN(300))
			}
		}
		for range 200 {
			check(rng.IntN(len(whole)+10), rng.IntN(len(whole)+10))
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), whole); err != nil && len(whole) < 10_000 {
			t.Error(err)
		}
	}
}

// The size depends on nothing but that of the sealed form: not on the longest address (RFC 5321, 4.5.3.1), nor on one that has to be quoted.
func TestHeadsOfOneSize(t *testing.T) {
	domain := strings.Repeat(strings.Repeat("d", 62)+".", 4) + "org"
	for _, h := range []Head{
		head, {},
		{Address: "a@b", Date: time.Unix(0, 1<<63-1), ID: "1"},
		{Address: strings.Repeat("l", 64) + "@" + domain[:255], Date: time.Unix(0, -1<<63), ID: "mailraft.9223372036854775807"},
		{Address: strings.Repeat(`"`, 64) + "@" + domain[:255], ID: "mailraft.9223372036854775807"},
	} {
		if n := len(h.text()); n != headSize {
			t.Errorf("%.20s: a head of %d octets", h.Address, n)
		}
		for line := range strings.SplitSeq(string(h.text()), "\r\n") {
			if len(line) > 998 {
				t.Errorf("a line of %d octets (RFC 5322, 2.1.1)", len(line))
			}
		}
	}
	if _, err := New(bytes.NewReader(nil), 0, Head{Address: strings.Repeat("l", 3000) + "@b"}); err == nil {
		t.Error("a head that is too long")
	}
}

func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	r, err := New(readerAt(func(p []byte, off int64) (int, error) { return 0, broken }), 100, head)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(make([]byte, headSize+1), 0); n != headSize || !errors.Is(err, broken) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := reader(t, nil, head).ReadAt(nil, -1); err == nil {
		t.Error("before the beginning")
	}
	short, err := New(bytes.NewReader(random(10)), 100, head)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.ReadAt(make([]byte, 10), headSize); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a sealed form that ends early: %v", err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

func ExampleHead() {
	h := Head{Address: "alice@example.org", Date: time.Unix(1e9, 0), ID: "mailraft.7"}
	r, _ := New(strings.NewReader("age-encryption.org/v1"), 21, h)
	text, _ := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	for line := range strings.SplitSeq(strings.TrimSuffix(string(text), "\r\n"), "\r\n") {
		if strings.TrimSpace(line) != "" {
			fmt.Println(line)
		}
	}
	// Output:
	// Date: Sun, 09 Sep 2001 01:46:40 +0000
	// From: <alice@example.org>
	// Subject: Sealed message
	// Message-ID: <mailraft.7@example.org>
	// MIME-Version: 1.0
	// Content-Type: multipart/mixed; boundary="=_mailraft_sealed"
	// --=_mailraft_sealed
	// Content-Type: text/plain; charset=us-ascii
	// This message is sealed to a key of yours, which the mail server does not
	// have. The attachment, message.age, is the message. To read it, save it and
	// open it with age (https://age-encryption.org) and your private key:
	//     age -d -i key.txt message.age > message.eml
	// --=_mailraft_sealed
	// Content-Type: application/octet-stream; name="message.age"
	// Content-Disposition: attachment; filename="message.age"
	// Content-Transfer-Encoding: base64
	// YWdlLWVuY3J5cHRpb24ub3JnL3Yx
	// --=_mailraft_sealed--
}
