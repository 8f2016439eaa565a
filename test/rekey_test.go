package test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
	"mailraft/proxy/maildir"
	"mailraft/raftstore/raftpb"
	"mailraft/test/client"
	"mailraft/test/message"
	"mailraft/test/node"
)

// rekeyed is an account that gets a new key pair while mail comes in.
type rekeyed struct {
	t *testing.T
	node.Account

	mu   sync.Mutex
	sent map[string][]byte // by the file's name in new/, as on every node
}

// deliver delivers a message on a node.
func (r *rekeyed) deliver(on *node.Node, raw []byte) error {
	d, err := maildir.NewDelivery(homeOn(on, r.Address), "")
	if err != nil {
		return err
	}
	d.Write(raw)
	path, err := d.Commit(maildir.Options{Recent: true})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[filepath.Base(path)] = raw
	return nil
}

// deliverMore delivers on a node until over is closed.
func (r *rekeyed) deliverMore(on *node.Node, over <-chan struct{}) error {
	often := time.NewTicker(50 * time.Millisecond) // and no more, as all of it is read again and again
	defer often.Stop()
	for i := uint64(0); ; i++ {
		select {
		case <-over:
			return nil
		case <-often.C:
		}
		if err := r.deliver(on, message.Text(1000+i, 3000)); err != nil {
			return fmt.Errorf("message %d while keys change: %w", i, err)
		}
	}
}

// readable reads all that was sent by now on a node, where the account has to be unlocked.
func (r *rekeyed) readable(on *node.Node) {
	r.t.Helper()
	r.mu.Lock()
	sent := maps.Clone(r.sent)
	r.mu.Unlock()
	for name, raw := range sent {
		got, err := os.ReadFile(filepath.Join(homeOn(on, r.Address), "new", name))
		if err != nil || !bytes.Equal(got, raw) {
			r.t.Fatalf("%s: %s of %d messages: %v, %d octets of %d", on.Name, name, len(sent), err, len(got), len(raw))
		}
	}
}

// login logs in by IMAP; nil: it is refused.
func (r *rekeyed) login(on *node.Node, password string) *client.IMAP {
	r.t.Helper()
	c, err := client.DialIMAP(on.IMAP, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if c.Login(r.Address, password) != nil {
		c.Logout()
		return nil
	}
	return c
}

// progress is how far the account is, as a node says; nil: all is sealed to its key.
func (r *rekeyed) progress(on *node.Node) *struct{ Files, Total_Files int } {
	r.t.Helper()
	var a struct {
		Resealing *struct{ Files, Total_Files int }
	}
	if err := json.Unmarshal([]byte(on.Admin("account", "list", "--json")), &a); err != nil {
		r.t.Fatal(err)
	}
	return a.Resealing
}

// stored are the account's record and its contents, in their sealed form, as a backup has them.
func (r *rekeyed) stored(on *node.Node) (a *raftpb.Account, contents [][]byte) {
	r.t.Helper()
	dir := r.t.TempDir()
	recipient, file := identity(r.t)
	backUp(r.t, on, dir, "--recipient", recipient)
	key, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(key))
	if err != nil {
		r.t.Fatal(err)
	}
	accounts, _ := filepath.Glob(filepath.Join(dir, "accounts", "*.age"))
	packs, _ := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if len(accounts) != 1 || len(packs) != 1 {
		r.t.Fatalf("accounts %v, packs %v", accounts, packs)
	}
	sealed, err := os.ReadFile(accounts[0])
	if err != nil {
		r.t.Fatal(err)
	}
	plain, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.record(bufio.NewReader(plain)), r.entries(packs[0])
}

// record reads the first of an account's records in a backup (docs/format.md).
func (r *rekeyed) record(b *bufio.Reader) *raftpb.Account {
	r.t.Helper()
	part := func() []byte {
		size, err := binary.ReadUvarint(b)
		if err != nil {
			r.t.Fatal(err)
		}
		p := make([]byte, size)
		if _, err := io.ReadFull(b, p); err != nil {
			r.t.Fatal(err)
		}
		return p
	}
	a := new(raftpb.Account)
	if key := part(); !bytes.Equal(key, []byte{0}) {
		r.t.Fatalf("key %x", key)
	}
	if err := proto.Unmarshal(part(), a); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// entries reads the contents in a pack (docs/format.md).
func (r *rekeyed) entries(pack string) (contents [][]byte) {
	r.t.Helper()
	b, err := os.ReadFile(pack)
	if err != nil {
		r.t.Fatal(err)
	}
	const head = 4 + 4 + 8 + 8 + 8 + 32
	for len(b) > 0 {
		if len(b) < head || string(b[:4]) != "mrc1" {
			r.t.Fatalf("%s: not an entry: %.80x", pack, b)
		}
		octets := binary.BigEndian.Uint64(b[24:])
		contents = append(contents, b[head:head+octets])
		b = b[head+octets:]
	}
	return contents
}

// privateKeyOf opens the first slot of a record with the account's password.
func (r *rekeyed) privateKeyOf(a *raftpb.Account) seal.Identity {
	r.t.Helper()
	s, err := slot.Unmarshal(a.Slots[0].Record)
	if err != nil {
		r.t.Fatal(err)
	}
	id, err := slot.Unwrap(s, uint64(a.Number), []byte(r.Password))
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// opens tells whether a key opens a sealed content, whose message's size is not known: what it has opened may be of any.
func opens(sealed []byte, id seal.Identity) bool {
	_, err := seal.OpenBytes(sealed, 0, id)
	return !errors.Is(err, seal.ErrWrongKey)
}

// begun is what the command says first.
type begun struct {
	Code string   `json:"recovery_code"`
	Apps []string `json:"app_passwords_removed"`
}

// An account gets a new key pair while mail comes in on another node. The node that seals what is stored to it is killed in the middle; a login on a
// third one has it go on there. Nothing is lost, nobody else sees that anything changes, and in the end the old private key opens nothing that
// is stored.
func TestRekey(t *testing.T) {
	t.Parallel()
	nodes := node.Cluster(t, 3, node.Flags("--cluster-catchup-bandwidth", "1M"))
	r := &rekeyed{t: t, Account: nodes[0].AddAccount("alice@rekey.example"), sent: map[string][]byte{}}
	app := strings.Fields(nodes[0].AdminWith(r.Password+"\n", "app-password", "add", r.Address, "phone", "--password-stdin"))
	phone := app[len(app)-1]
	nodes[0].AdminWith(r.Password+"\n", "recovery", "new", r.Address, "--password-stdin")
	for i := range 4 { // too long for one command
		noise := make([]byte, 1<<20)
		rand.Read(noise)
		if err := r.deliver(nodes[i%3], []byte("Subject: noise\r\n\r\n"+base64.StdEncoding.EncodeToString(noise))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		if err := r.deliver(nodes[i%3], message.Text(uint64(i), 3000)); err != nil {
			t.Fatal(err)
		}
	}
	before, contents := r.stored(nodes[1])
	oldKey := r.privateKeyOf(before)
	for _, c := range contents {
		if !opens(c, oldKey) {
			t.Fatal("the captured key is not the one that mail is sealed to")
		}
	}
	index := indexOf(t, node.Account{Home: homeOn(nodes[1], r.Address)}, "")

	wrong := nodes[0].Try("not the password\n", "account", "rekey", r.Address, "--yes", "--password-stdin")
	if wrong.Code != 6 || !strings.Contains(wrong.Stderr, "nothing was changed") || r.progress(nodes[0]) != nil {
		t.Fatalf("wrong password: exit code %d, %s", wrong.Code, wrong.Stderr)
	}
	if a := nodes[0].Try(r.Password+"\n", "account", "rekey", r.Address, "--resume", "--password-stdin"); a.Code != 6 {
		t.Errorf("nothing to resume: exit code %d, %s", a.Code, a.Stderr)
	}

	c := r.login(nodes[2], phone)
	if c == nil {
		t.Fatal("the app password does not log in")
	}
	defer c.Logout()
	over, delivered := make(chan struct{}), make(chan error, 1)
	go func() { delivered <- r.deliverMore(nodes[1], over) }()
	ended := make(chan node.Answer, 1)
	go func() {
		ended <- nodes[0].Try(r.Password+"\n", "account", "rekey", r.Address, "--yes", "--password-stdin", "--json")
	}()
	nodes[1].Eventually("some of the contents are sealed to the new key", func() bool {
		p := r.progress(nodes[1])
		return p != nil && p.Files > 5 && p.Files < p.Total_Files
	})
	nodes[0].Kill()
	answer := <-ended
	var first begun
	if err := json.NewDecoder(strings.NewReader(answer.Stdout)).Decode(&first); err != nil {
		t.Fatalf("%v: %+v", err, answer)
	}
	if answer.Code == 0 || first.Code == "" || !slices.Equal(first.Apps, []string{"phone"}) || !strings.Contains(answer.Stderr, "--resume") {
		t.Errorf("the command of the node that was killed: %+v, exit code %d, %s", first, answer.Code, answer.Stderr)
	}
	if nodes[2].IsUnlocked(r.Account) {
		t.Error("what the old key opened is open yet")
	}
	if nodes[1].IsUnlocked(r.Account) || r.progress(nodes[1]) == nil {
		t.Fatal("it is over already, or goes on while the account is locked")
	}
	if status := nodes[1].Try("", "status").Stdout; !strings.Contains(status, r.Address+" has a new key") {
		t.Errorf("status says nothing of it: %s", status)
	}
	nodes[0].Start()

	// A login is enough for it to go on, and all can be read meanwhile.
	session := r.login(nodes[2], r.Password)
	if session == nil {
		t.Fatal("the password does not log in")
	}
	defer session.Logout()
	r.readable(nodes[2])
	nodes[1].Eventually("all is sealed to the new key", func() bool { return r.progress(nodes[1]) == nil })
	close(over)
	if err := <-delivered; err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.Unlock(r.Account)
		r.readable(n)
		n.Fsck()
	}
	if len(r.sent) < 40 {
		t.Errorf("only %d messages came", len(r.sent))
	}
	now := indexOf(t, node.Account{Home: homeOn(nodes[1], r.Address)}, "")
	if !slices.Equal(now.Messages[:len(index.Messages)], index.Messages) {
		t.Error("UIDs, MODSEQs, sizes, dates or names of messages have changed")
	}

	after, contents := r.stored(nodes[1])
	if len(after.PreviousKeys) != 0 || after.Key != before.Key+1 || after.Recipient == before.Recipient {
		t.Errorf("the record has %d previous keys, key %d", len(after.PreviousKeys), after.Key)
	}
	newKey := r.privateKeyOf(after)
	if len(contents) < len(r.sent) {
		t.Errorf("%d contents of %d messages are stored", len(contents), len(r.sent))
	}
	for _, c := range contents {
		if opens(c, oldKey) || !opens(c, newKey) {
			t.Fatal("a content is not sealed to the new key alone")
		}
	}
	if r.login(nodes[1], phone) != nil {
		t.Error("the app password logs in")
	}
	if apps := nodes[1].Admin("app-password", "list", r.Address, "--json"); apps != "" {
		t.Errorf("app passwords: %s", apps)
	}
	nodes[1].AdminWith(first.Code+"\nanother password\n", "account", "recover", r.Address, "--password-stdin")
}
