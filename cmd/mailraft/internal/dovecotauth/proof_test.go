package dovecotauth

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// prove is the client's side of a login by SCRAM up to the server's last message, which it checks. It answers the line that this came in.
func (c *talk) prove(id, params, user, password string) string {
	c.t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	must(c.t, err)
	talk := client.NewConversation()
	first, err := talk.Step("")
	must(c.t, err)
	c.say("AUTH\t" + id + "\tSCRAM-SHA-256\tservice=smtp" + params + "\tresp=" + b64(first))
	answer := c.read()
	text, found := strings.CutPrefix(answer, "CONT\t"+id+"\t")
	if !found {
		return answer
	}
	final, err := talk.Step(unb64(c.t, text))
	must(c.t, err)
	c.say("CONT\t" + id + "\t" + b64(final))
	answer = c.read()
	_, last, asked := strings.Cut(answer, "CONT\t"+id+"\t")
	if !asked {
		_, last, _ = strings.Cut(answer, "\tresp=")
	}
	if last != "" {
		if _, err := talk.Step(unb64(c.t, last)); err != nil || !talk.Valid() {
			c.t.Fatalf("the server's proof: %v", err)
		}
	}
	return answer
}

func unb64(t *testing.T, text string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	return string(b)
}

// A client that proves to know the password is let in as one that sends it, and hears the server's own proof in either of two ways.
func TestProof(t *testing.T) {
	w := newWorld(t)
	c := w.greeted()
	if last := c.prove("2", "", "alice@example.org", "secret"); !strings.HasPrefix(last, "CONT\t2\t") {
		t.Fatal(last)
	}
	c.say("CONT\t2\t")
	c.want(w.ok(2))
	if !w.unlocked() {
		t.Error("the account is locked")
	}
	if last := c.prove("3", "\tfinal-resp-ok", "alice@example.org", "secret"); !strings.HasPrefix(last, w.ok(3)+"\tresp=") {
		t.Error(last)
	}
	c.say("AUTH\t4\tSCRAM-SHA-256\tservice=smtp") // without an initial response
	c.want("CONT\t4\t")
	c.say("CANCEL\t4")

	if last := c.prove("5", "", "alice@example.org", "wrong"); last != "FAIL\t5\tuser=alice@example.org" {
		t.Error(last)
	}
	if last := c.prove("6", "", "bob@example.org", "secret"); last != "FAIL\t6\tuser=bob@example.org" {
		t.Error(last)
	}
	if last := c.prove("7", "", "alice@example.org", "secret"); !strings.HasPrefix(last, "CONT\t7\t") {
		t.Fatal(last)
	}
	c.say("CONT\t7\t" + b64("more"))
	c.want("FAIL\t7\tuser=alice@example.org")
	c.say("AUTH\t8\tSCRAM-SHA-256\tservice=smtp\tresp=" + b64("nothing of it"))
	c.want("FAIL\t8")
}

// Where it is turned off it is not offered, nor done.
func TestNoProof(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.SCRAM = false })
	c := w.dial()
	for said := ""; said != "DONE"; said = c.read() {
		if strings.Contains(said, "SCRAM") {
			t.Error(said)
		}
	}
	c = w.greeted()
	if last := c.prove("1", "", "alice@example.org", "secret"); last != "FAIL\t1\treason=Unsupported authentication mechanism" {
		t.Error(last)
	}
}
