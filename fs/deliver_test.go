package fs

import (
	"os"
	"syscall"
	"testing"
)

// A delivery that got no answer may have been committed. Then the next one finds it, and adds what was written since.
func TestUnansweredDeliveries(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	box := stat(t, home+"/new").Ino
	unanswered := func(name, text string) {
		write(t, home+"/tmp/"+name, text)
		s.do("unanswered %d %d %s", stat(t, home+"/tmp/"+name).Ino, box, name)
	}
	again := func(name string) {
		must(t, os.Link(home+"/tmp/"+name, home+"/new/"+name+"2"))
		must(t, os.Remove(home+"/tmp/"+name))
	}
	add := func(path, text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(text)
		must(t, err)
		must(t, f.Close())
	}
	big := noise(1, 2<<20)
	unanswered("same", "same")
	again("same")
	unanswered("later", "first ")
	again("later")
	add(home+"/new/later", "second")
	unanswered("before", "first ")
	add(home+"/tmp/before", "second")
	again("before")
	unanswered("big", big)
	add(home+"/tmp/big", "second")
	again("big")
	want := map[string]string{"same": "same", "later": "first second", "before": "first second", "big": big + "second"}
	check := func() {
		t.Helper()
		for name, text := range want {
			wantText(t, home+"/new/"+name, text)
			wantText(t, home+"/new/"+name+"2", text)
			if a, b := stat(t, home+"/new/"+name), stat(t, home+"/new/"+name+"2"); a.Ino != b.Ino || a.Nlink != 2 || a.Size != int64(len(text)) {
				t.Errorf("%s: inodes %d and %d, %d links, size %d", name, a.Ino, b.Ino, a.Nlink, a.Size)
			}
		}
	}
	check()
	s.kill()
	s.start()
	s.do("unlock alice")
	check()
}

// The pieces of a large file that stays staged are reaped after a day.
func TestDeliveryOfReapedPieces(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock alice")
	home := s.home("alice")
	text := noise(1, 3<<20)
	write(t, home+"/tmp/x", text)
	if got := s.do("orphans -"); got != "1" {
		t.Fatalf("%s contents are reaped", got)
	}
	must(t, os.Link(home+"/tmp/x", home+"/new/x"))
	wantText(t, home+"/new/x", text)
	must(t, os.Remove(home+"/tmp/x"))
	wantText(t, home+"/new/x", text)
	if got := s.do("orphans -"); got != "0" {
		t.Errorf("%s contents are left", got)
	}
}

// Nothing is delivered sealed to a key that the account has no more.
func TestDeliveryAcrossAChangeOfKeys(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	write(t, home+"/tmp/closed", "closed")
	open, err := os.Create(home + "/tmp/open")
	must(t, err)
	_, err = open.WriteString("open")
	must(t, err)
	again, err := os.OpenFile(home+"/tmp/open", os.O_WRONLY, 0)
	must(t, err)
	must(t, again.Close()) // seals it
	s.do("rekey alice")
	wantErr(t, "link", os.Link(home+"/tmp/closed", home+"/new/closed"), syscall.EIO)
	wantErr(t, "rename", os.Rename(home+"/tmp/closed", home+"/new/closed"), syscall.EIO)
	must(t, os.Link(home+"/tmp/open", home+"/new/open")) // is sealed again
	must(t, open.Close())
	must(t, os.Truncate(home+"/tmp/closed", 0)) // as everything of it is new now
	must(t, os.Rename(home+"/tmp/closed", home+"/new/closed"))
	s.do("unlock alice")
	wantText(t, home+"/new/open", "open")
	wantText(t, home+"/new/closed", "")
}
