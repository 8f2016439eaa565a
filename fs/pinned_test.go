package fs

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

// enclosed takes apart what is read of a pinned account's message, and opens what is attached.
func enclosed(t *testing.T, text []byte, id age.Identity) (header mail.Header, message string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(text))
	must(t, err)
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	must(t, err)
	parts := multipart.NewReader(m.Body, params["boundary"])
	_, err = parts.NextPart()
	must(t, err)
	attached, err := parts.NextPart()
	must(t, err)
	opened, err := age.Decrypt(base64.NewDecoder(base64.StdEncoding, attached), id)
	must(t, err)
	plain, err := io.ReadAll(opened)
	must(t, err)
	return m.Header, string(plain)
}

// pinnedServer is a server with an account that is pinned to a key.
func pinnedServer(t *testing.T, mounts int) (*testServer, *age.X25519Identity) {
	t.Helper()
	s := startServer(t, mounts)
	id, err := age.GenerateX25519Identity()
	must(t, err)
	s.do("add pat %s", id.Recipient())
	return s, id
}

// A message of a pinned account is sealed to its owner's key, and read as what encloses it; its size is that everywhere, once it is closed.
func TestPinnedMessages(t *testing.T) {
	s, id := pinnedServer(t, 2)
	home := s.home("pat")
	texts := map[string]string{
		"empty": "", "small": "Subject: x\r\n\r\nhello\r\n", "frames": strings.Repeat("0123456789\r\n", 60_000),
		"pieces": strings.Repeat("this goes ahead\r\n", 200_000),
	}
	for name, text := range texts {
		f, err := os.OpenFile(home+"/tmp/"+name, os.O_CREATE|os.O_RDWR, 0o600)
		must(t, err)
		_, err = f.WriteString(text)
		must(t, err)
		b := make([]byte, len(text))
		if _, err := f.ReadAt(b, 0); err != nil && len(text) > 0 || string(b) != text {
			t.Errorf("%s reads %.40q while it is written, %v", name, b, err)
		}
		if st, err := f.Stat(); err != nil || st.Size() != int64(len(text)) {
			t.Errorf("%s: size %d while it is written", name, st.Size())
		}
		must(t, f.Close())
		staged := stat(t, home+"/tmp/"+name).Size
		must(t, os.Link(home+"/tmp/"+name, home+"/new/"+name))
		must(t, os.Remove(home+"/tmp/"+name))
		if size := stat(t, home+"/new/"+name).Size; size != staged {
			t.Errorf("%s: size %d when it was closed, %d when it was delivered", name, staged, size)
		}
		_, err = os.ReadFile(home + "/new/" + name)
		wantErr(t, name+", locked", err, syscall.ENOKEY)
	}
	s.do("unlock pat")
	index, err := os.ReadFile(home + "/.mailraft-index")
	must(t, err)
	for _, home := range []string{home, s.homeOn(1, "pat")} {
		for name, text := range texts {
			path := home + "/new/" + name
			got, err := os.ReadFile(path)
			must(t, err)
			st := stat(t, path)
			if st.Size != int64(len(got)) {
				t.Errorf("%s: size %d, %d octets are read", name, st.Size, len(got))
			}
			if !strings.Contains(string(index), fmt.Sprintf(" %d %d new/%s\n", len(got), st.Mtim.Sec, name)) {
				t.Errorf("%s has another size in the index:\n%s", name, index)
			}
			if text == "" {
				continue
			}
			header, message := enclosed(t, got, id)
			if message != text {
				t.Errorf("%s opens to %d octets, %d were written", name, len(message), len(text))
			}
			if date, err := header.Date(); err != nil || date.Unix() != st.Mtim.Sec || header.Get("Message-ID") != fmt.Sprintf("<mailraft.%d@example.org>", st.Ino) {
				t.Errorf("%s: %v", name, header)
			}
			f, err := os.Open(path)
			must(t, err)
			rng := rand.New(rand.NewPCG(1, uint64(len(text))))
			for range 50 {
				off, n := rng.IntN(len(got)), rng.IntN(300_000)
				b := make([]byte, n)
				read, err := f.ReadAt(b, int64(off))
				if want := got[off:min(off+n, len(got))]; !bytes.Equal(b[:read], want) || err != nil && err != io.EOF {
					t.Fatalf("%s: %d octets at %d: %d, %v", name, n, off, read, err)
				}
			}
			must(t, f.Close())
		}
	}

	// The date is that of the file.
	must(t, os.Chtimes(home+"/new/small", time.Unix(1e9, 0), time.Unix(1e9, 0)))
	got, err := os.ReadFile(home + "/new/small")
	must(t, err)
	if header, _ := enclosed(t, got, id); header.Get("Date") != "Sun, 09 Sep 2001 01:46:40 +0000" {
		t.Errorf("date %q", header.Get("Date"))
	}
	s.stop()
}

// Of a message that is sealed no part can be changed; all of it can be written anew, and who writes it may do so in several goes.
func TestPinnedWriting(t *testing.T) {
	s, id := pinnedServer(t, 1)
	s.do("unlock pat")
	home := s.home("pat")
	write(t, home+"/cur/f", "text")
	wantMessage := func(path, want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		must(t, err)
		if _, message := enclosed(t, got, id); message != want {
			t.Errorf("%s is %q, want %q", path, message, want)
		}
	}
	wantMessage(home+"/cur/f", "text")
	for what, flags := range map[string]int{"append": os.O_WRONLY | os.O_APPEND, "read and write": os.O_RDWR} {
		_, err := os.OpenFile(home+"/cur/f", flags, 0)
		wantErr(t, what, err, syscall.ENOKEY)
	}
	f, err := os.OpenFile(home+"/cur/f", os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 3)
	wantErr(t, "a part", err, syscall.ENOKEY)
	must(t, f.Close())
	wantErr(t, "truncate to a part", os.Truncate(home+"/cur/f", 3), syscall.ENOKEY)
	wantMessage(home+"/cur/f", "text")
	write(t, home+"/cur/f", "written anew")
	wantMessage(home+"/cur/f", "written anew")

	// Others are not shown in plain what its writer still has under way.
	f, err = os.OpenFile(home+"/cur/f", os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = f.WriteString("committed")
	must(t, err)
	_, err = os.ReadFile(home + "/cur/f")
	wantErr(t, "while it is written anew", err, syscall.ENOKEY)
	must(t, f.Sync())
	wantMessage(home+"/cur/f", "committed")
	_, err = f.WriteString(" and more")
	must(t, err)
	must(t, f.Close())
	wantMessage(home+"/cur/f", "committed and more")

	// A descriptor that several processes write by, each of which closes its own.
	cmd := exec.Command("sh", "-c", `(echo one; /bin/echo two; /bin/echo three) > "$0"; mv "$0" "$1"`, home+"/tmp/g", home+"/new/g")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wantMessage(home+"/new/g", "one\ntwo\nthree\n")
	s.stop()
}

// What is no message is sealed to the account's own key, and read as in any account; neither becomes the other.
func TestPinnedOtherFiles(t *testing.T) {
	s, id := pinnedServer(t, 2)
	home := s.home("pat")
	write(t, home+"/subscriptions.lock", "INBOX\n")
	must(t, os.Rename(home+"/subscriptions.lock", home+"/subscriptions"))
	write(t, home+"/tmp/f", "text")
	must(t, os.Rename(home+"/tmp/f", home+"/new/f"))
	_, err := os.ReadFile(home + "/subscriptions")
	wantErr(t, "locked", err, syscall.ENOKEY)
	s.do("unlock pat")
	for _, home := range []string{home, s.homeOn(1, "pat")} {
		wantText(t, home+"/subscriptions", "INBOX\n")
	}
	f, err := os.OpenFile(home+"/subscriptions", os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("Sent\n")
	must(t, err)
	must(t, f.Close())
	wantText(t, home+"/subscriptions", "INBOX\nSent\n")

	must(t, os.MkdirAll(home+"/.Sent/cur", 0o700))
	must(t, os.Mkdir(home+"/cur/sub", 0o700))
	write(t, home+"/tmp/g", "staged")
	for _, names := range [][2]string{
		{"/new/f", "/f"}, {"/new/f", "/.Sent/f"}, {"/new/f", "/cur/sub/f"}, {"/subscriptions", "/cur/s"}, {"/tmp/g", "/g"},
	} {
		wantErr(t, "rename "+names[0]+" "+names[1], os.Rename(home+names[0], home+names[1]), syscall.EXDEV)
		wantErr(t, "link "+names[0]+" "+names[1], os.Link(home+names[0], home+names[1]), syscall.EXDEV)
	}
	must(t, os.Rename(home+"/new/f", home+"/cur/f:2,S"))
	must(t, os.Link(home+"/cur/f:2,S", home+"/.Sent/cur/f"))
	must(t, os.Rename(home+"/cur/sub", home+"/sub"))
	got, err := os.ReadFile(home + "/.Sent/cur/f")
	must(t, err)
	if _, message := enclosed(t, got, id); message != "text" {
		t.Errorf("in another folder it is %q", message)
	}
	s.stop()
}
