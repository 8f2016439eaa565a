package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/fs/seal"
	"mailraft/raftstore/raftpb"
	"mailraft/raftstore/tree"
)

// previousKeys is keyring.Config.Previous, as package access has it.
func (p *serverProcess) previousKeys(number uint64, current seal.Identity) (ids []seal.Identity, err error) {
	a, err := p.store.Directory().Account(tree.Account(number))
	if err != nil || a.Recipient != current.Recipient().String() {
		return nil, err
	}
	for _, k := range a.PreviousKeys {
		id, err := seal.OpenIdentity(k.Sealed, current)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// resealing does what the tests of it ask for.
func (p *serverProcess) resealing(ctx context.Context, what string, a *raftpb.Account) (string, error) {
	switch what {
	case "newkey": // a new key pair; what the old one opened is locked
		return "", p.replaceKey(ctx, a)
	case "reseal": // from now on accounts are sealed anew when they are unlocked
		p.resealer = NewResealer(p.store, p.keys, p.log)
		return "", nil
	case "await": // an account whose contents are all sealed to its key
		work := p.resealer.Work(tree.Account(a.Number))
		if work != nil {
			select {
			case <-work.Ended():
			case <-time.After(30 * time.Second):
				return "", errors.New("it goes on and on")
			}
		}
		now, err := p.store.Directory().Account(tree.Account(a.Number))
		if err == nil && now.IsResealed() {
			err = errors.New("it has ended, and its previous keys are there")
		}
		return "", err
	}
	return p.keysOf(ctx, a)
}

func (p *serverProcess) endResealing() {
	if p.resealer != nil {
		p.resealer.Close()
	}
}

func (p *serverProcess) replaceKey(ctx context.Context, a *raftpb.Account) error {
	file := filepath.Join(p.dir, a.LocalPart+".key")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	old, err := seal.ParseIdentity(b)
	if err != nil {
		return err
	}
	recipient, err := p.newKey(a.LocalPart)
	if err != nil {
		return err
	}
	to, err := seal.ParseRecipient(recipient)
	if err != nil {
		return err
	}
	sealed, err := old.SealTo(to)
	if err != nil {
		return err
	}
	err = p.store.Directory().UpdateAccount(ctx, tree.Account(a.Number), func(now *raftpb.Account) error {
		now.PreviousKeys = []*raftpb.PreviousKey{{Number: now.Key, Sealed: sealed}}
		now.Recipient, now.Key = recipient, now.Key+1
		return nil
	})
	p.keys.Lock(uint64(a.Number))
	return err
}

// keysOf lists the numbers of the key pairs that the account's contents are sealed to.
func (p *serverProcess) keysOf(ctx context.Context, a *raftpb.Account) (string, error) {
	state, err := p.store.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	defer state.Close()
	var keys []string
	err = state.Shard(a).Records(tree.Account(a.Number), func(key, value []byte) error {
		in, err := tree.InodeOf(tree.Account(a.Number), key, value)
		if err == nil && in != nil && in.Content != 0 {
			keys = append(keys, fmt.Sprint(in.Key))
		}
		return err
	})
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), ","), err
}

// An account that has got a new key pair reads what is sealed to the one before, has that sealed anew, and reads it with the new one alone,
// also by files that were open all the time; and nobody sees that anything has changed.
func TestReseal(t *testing.T) {
	s := startServer(t, 2)
	s.do("unlock alice")
	home, other := s.home("alice"), s.homeOn(1, "alice")
	texts := map[string]string{"new/small": "text", "new/piece": noise(1, 700_000), "new/pieces": noise(2, 2_500_000), "new/empty": "", "plain": "a file"}
	open := map[string][2]*os.File{}
	index := func() string {
		b, err := os.ReadFile(other + "/.mailraft-index")
		must(t, err)
		return string(b)
	}
	for name, text := range texts {
		write(t, home+"/"+name, text)
	}
	indexed, stats := index(), map[string]syscall.Stat_t{}
	for name, text := range texts {
		open[name] = [2]*os.File{openRead(t, home+"/"+name, text), openRead(t, other+"/"+name, text)}
		stats[name] = *stat(t, other+"/"+name)
	}
	write(t, home+"/tmp/staged", "was sealed before")
	large := noise(3, 1_800_000)
	write(t, home+"/tmp/large", large)

	s.do("newkey alice")
	must(t, os.Link(home+"/tmp/staged", home+"/new/staged")) // mail comes in while its owner is away
	must(t, os.Link(home+"/tmp/large", home+"/new/large"))
	s.do("unlock alice")
	for name, text := range texts { // with the previous key
		wantText(t, home+"/"+name, text)
	}
	texts["new/staged"], texts["new/large"] = "was sealed before", large
	write(t, home+"/new/after", "a message to the new key")
	texts["new/after"] = "a message to the new key"
	if keys := s.do("keys alice"); keys != "0,1" {
		t.Errorf("contents are sealed to the keys %s", keys)
	}
	s.do("lock alice")
	s.do("reseal alice")
	s.do("unlock alice")
	s.do("await alice")
	if keys := s.do("keys alice"); keys != "1" {
		t.Errorf("contents are sealed to the keys %s", keys)
	}
	check := func() {
		t.Helper()
		for name, text := range texts {
			for _, f := range open[name] { // before it is opened anew
				if f != nil {
					wantRead(t, f, text)
				}
			}
			wantText(t, home+"/"+name, text)
			wantText(t, other+"/"+name, text)
		}
	}
	// What was in memory of the old contents, and the previous key, are no more; nobody has opened any of the files since.
	s.do("lock alice")
	s.do("unlock alice")
	check()
	for name, st := range stats {
		if now := *stat(t, other+"/"+name); now != st {
			t.Errorf("%s: status %+v, was %+v", name, now, st)
		}
	}
	if now := index(); !strings.Contains(now, strings.SplitN(indexed, "\n", 2)[1]) {
		t.Errorf("the index was\n%sand is\n%s", indexed, now)
	}
	if n := s.do("orphans -"); n != "0" {
		t.Errorf("%s contents are left that nobody names", n)
	}
	s.do("check -")
	s.do("newkey alice") // and again
	s.do("unlock alice")
	s.do("await alice")
	if keys := s.do("keys alice"); keys != "2" {
		t.Errorf("contents are sealed to the keys %s", keys)
	}
	check()
}

// A mount that has not heard of the new key pair, and what was sealed to the old one and not committed, when nothing may be sealed to that any more:
// it is sealed anew, or refused where it can't be opened. Nothing gets in that nobody can read.
func TestFencedOff(t *testing.T) {
	s := startServer(t, 3)
	s.do("unlock alice")
	s.do("reseal alice")
	home, deaf, dumb := s.home("alice"), s.homeOn(1, "alice"), s.homeOn(2, "alice")
	write(t, deaf+"/first", "before")
	write(t, dumb+"/file", "before")
	write(t, home+"/tmp/staged", "sealed to the old key")
	write(t, home+"/tmp/late", "sealed to the old key too")
	large := noise(4, 1_800_000)
	write(t, home+"/tmp/large", large)

	s.do("deaf 1")
	s.do("deaf 2")
	s.do("newkey alice")
	s.do("unlock alice")
	s.do("await alice")
	// The mounts go on with the old key.
	write(t, deaf+"/tmp/x", "a message")
	must(t, os.Link(deaf+"/tmp/x", deaf+"/new/x"))
	write(t, dumb+"/file", "written over")
	// These were sealed before, and the session has the key yet.
	must(t, os.Link(home+"/tmp/staged", home+"/new/staged"))
	must(t, os.Link(home+"/tmp/large", home+"/new/large"))
	if keys := s.do("keys alice"); keys != "1" {
		t.Errorf("contents are sealed to the keys %s", keys)
	}
	s.do("lock alice")
	wantErr(t, "a message that nobody could read", os.Link(home+"/tmp/late", home+"/new/late"), syscall.EIO)
	s.do("unlock alice")
	wantErr(t, "a message that nobody could read, its owner being there", os.Link(home+"/tmp/late", home+"/new/late"), syscall.EIO)
	for name, text := range map[string]string{
		"new/x": "a message", "file": "written over", "new/staged": "sealed to the old key", "new/large": large,
	} {
		wantText(t, home+"/"+name, text)
	}
	s.do("check -")
}

// What is sealed to a key that the session has not is lost only if that key was discarded: EKEYREJECTED. Else this node has not heard of it yet.
func TestAKeyThatIsNotHereYet(t *testing.T) {
	s := startServer(t, 3)
	s.do("unlock alice")
	home, deaf, other := s.home("alice"), s.homeOn(1, "alice"), s.homeOn(2, "alice")
	write(t, deaf+"/first", "before")
	s.do("deaf 1")
	old, err := os.ReadFile(filepath.Join(s.dir, "alice.key"))
	must(t, err)
	s.do("newkey alice")
	must(t, os.WriteFile(filepath.Join(s.dir, "alice.key"), old, 0o600))
	s.do("unlock alice") // with the old one
	write(t, home+"/tmp/x", "a message")
	must(t, os.Link(home+"/tmp/x", home+"/new/x"))
	must(t, os.Remove(home+"/tmp/x"))
	for _, path := range []string{other + "/new/x", deaf + "/new/x"} {
		_, err := os.ReadFile(path)
		wantErr(t, path, err, syscall.EIO)
	}
	wantText(t, deaf+"/first", "before")
}

// A message that lost its last name while it lies in tmp/ yet, and gets another, is what it was: sealed to the key that it was sealed to.
func TestNamedAgainKeepsItsKey(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("bob")
	s.do("newkey bob")
	write(t, home+"/tmp/x", "text")
	must(t, os.Link(home+"/tmp/x", home+"/new/x"))
	must(t, os.Remove(home+"/new/x"))
	must(t, os.Link(home+"/tmp/x", home+"/new/y"))
	if keys := s.do("keys bob"); keys != "1" {
		t.Errorf("contents are sealed to the keys %s", keys)
	}
	s.do("unlock bob")
	wantText(t, home+"/new/y", "text")
}
