package mailcopy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mailraft/proxy/maildir"
)

// TestMboxGivesBackWhatWentIn writes messages of all kinds into one mbox, and reads them: octet for octet what a mail program is shown
// of them.
func TestMboxGivesBackWhatWentIn(t *testing.T) {
	type sample struct {
		Name string
		Raw  []byte
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []sample
	for i := range 300 { // of the octets and words that mean something
		words := []string{"\r", "\n", "\r\n", ">", "From ", "From x Thu Jan  1 00:00:00 1970", "a", ":", " ", "\x00", "\xff", "Status: RO"}
		var b []byte
		for range random.IntN(40) {
			b = append(b, words[random.IntN(len(words))]...)
		}
		all = append(all, sample{fmt.Sprint("random ", i), b})
	}
	for _, text := range []string{
		"From a@b Thu Jan  1 00:00:00 1970\r\n>From x\r\n>>From y\r\n", "\r\n\r\n", "a\r\n\r\n\r\n", "a\r\r\n", "a\n", "Status: RO\r\n\r\nbody",
		exportField + ": fields=9 end=0 name=x\r\n\r\n", strings.Repeat("x", 64<<10-1) + "\r\n" + strings.Repeat("y", 1<<16) + "\r\n", ">From ", "", "\r", "\n", " folded\r\n\r\nbody",
	} {
		all = append(all, sample{fmt.Sprintf("%.20q", text), []byte(text)})
	}
	date := time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC)
	marks := []mark{
		{unique: "1.M2P3.host", date: date}, {unique: "odd % name", letters: "RS", date: date.Add(time.Hour)},
		{letters: "DFPRST", keywords: []string{"$Junk", "work"}, date: date}, {unique: "new", recent: true, date: date},
	}
	var file bytes.Buffer
	w := bufio.NewWriter(&file)
	for i, m := range all {
		if err := writeMbox(w, bytes.NewReader(m.Raw), marks[i%len(marks)]); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	for name, source := range map[string]io.Reader{"whole": bytes.NewReader(file.Bytes()), "in halves": iotest.HalfReader(bytes.NewReader(file.Bytes()))} {
		r, err := newMboxReader(source)
		if err != nil {
			t.Fatal(err)
		}
		head := bufio.NewReaderSize(nil, maxHead)
		for i, m := range all {
			if err := r.Next(); err != nil {
				t.Fatalf("%s: message %d (%s): %v", name, i, m.Name, err)
			}
			got, body, internal := takeMark(r, head, r.date)
			text, err := io.ReadAll(maildir.CRLFReader(body))
			if err != nil || internal {
				t.Fatal(err, internal)
			}
			want, _ := io.ReadAll(maildir.CRLFReader(bytes.NewReader(m.Raw)))
			if !bytes.Equal(text, want) {
				t.Errorf("%s: %s: %d octets, want %d: %.60q, %.60q", name, m.Name, len(text), len(want), text, want)
			}
			wantMark := marks[i%len(marks)]
			if got.unique != wantMark.unique || !got.date.Equal(wantMark.date) || got.recent != wantMark.recent ||
				sorted(got.letters) != sorted(wantMark.letters) || !slices.Equal(got.keywords, wantMark.keywords) {
				t.Errorf("%s: %s: %+v, want %+v", name, m.Name, got, wantMark)
			}
		}
		if err := r.Next(); err != io.EOF {
			t.Errorf("%s: behind the last message: %v", name, err)
		}
	}
}

func sorted(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// TestMboxOfOthers reads what mutt and Dovecot, and programs of other systems, write.
func TestMboxOfOthers(t *testing.T) {
	const file = "From MAILER-DAEMON Mon Jan  1 00:00:00 2024\nX-IMAP: 1704067200 0000000002\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nx\n\n" +
		"From bob@example.org  Tue Feb  6 10:11:12 2024\nSubject: a\nStatus: RO\nX-Status: AF\nX-Keywords: work,\n  \nX-UID: 7\n\n>From here\nFrom me to you\n\n\n" +
		"From - Wed Feb 07 10:11:12 +0100 2024\r\nSubject: b\r\n\r\nStatus: RO\r\n\r\nFrom now on\r\n"
	r, err := newMboxReader(strings.NewReader("\n" + file))
	if err != nil {
		t.Fatal(err)
	}
	type got struct{ letters, keywords, date, text string }
	var all []got
	head := bufio.NewReaderSize(nil, maxHead)
	for r.Next() == nil {
		m, body, internal := takeMark(r, head, r.date)
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if !internal {
			all = append(all, got{m.letters, strings.Join(m.keywords, " "), m.date.UTC().Format(time.DateTime), string(text)})
		}
	}
	want := []got{
		{"SRF", "work", "2024-02-06 10:11:12", "Subject: a\n\nFrom here\nFrom me to you\n\n"},
		{"", "", "2024-02-07 09:11:12", "Subject: b\r\n\r\nStatus: RO\r\n\r\nFrom now on\r\n"},
	}
	if !slices.Equal(all, want) {
		t.Errorf("%q\nwant %q", all, want)
	}
	for _, text := range []string{"Subject: x\n\nbody\n", "From here on\n", "\x00"} {
		if _, err := newMboxReader(strings.NewReader(text)); err == nil {
			t.Errorf("%q is an mbox", text)
		}
	}
}

func TestFolderNames(t *testing.T) {
	for rel, want := range map[string]string{
		".": "", ".Sent": ".Sent", ".A.B": ".A.B", "Work/2024": ".Work.2024", "example.org": ".example&AC4-org", "Entw\u00fcrfe": ".Entw&APw-rfe",
		".Entw&APw-rfe": ".Entw&APw-rfe", "INBOX": "", "inbox/x": ".x", ".INBOX": "", "A & B": ".A &- B",
	} {
		if got := folderOf(rel, false); got != want {
			t.Errorf("%q: %q, want %q", rel, got, want)
		}
	}
	for rel, want := range map[string]string{"INBOX": "", "A.B": ".A.B", "a.sbd/b": ".a.b", "Entw\u00fcrfe.x": ".Entw&APw-rfe&AC4-x"} {
		if got := folderOf(rel, true); got != want {
			t.Errorf("mbox %q: %q, want %q", rel, got, want)
		}
	}
}
