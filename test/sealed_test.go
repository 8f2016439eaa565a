package test

import (
	"bytes"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"mailraft/fs/seal/slot"
	"mailraft/raftstore"
	"mailraft/test/message"
	"mailraft/test/node"
)

// What is stored of a message opens without Mailraft: with Debian's age and zstd, or, for hybrid keys, which that age is too old for,
// with the age library.
func TestSealedOpensWithStockTools(t *testing.T) {
	t.Parallel()
	ageTool, zstdTool := tool(t, "age", "age"), tool(t, "zstd", "zstd")
	n := node.Start(t)
	classic := n.AddAccount("classic@example.org", "--key", "x25519")
	hybrid := n.AddAccount("hybrid@example.org")
	all := []message.Message{
		{Name: "empty"}, {Name: "small", Raw: message.Text(1, 500)}, {Name: "8 KiB", Raw: message.Text(2, 8<<10)},
		{Name: "3 MiB", Raw: message.Text(3, 3<<20)},
	}
	type export struct{ sealed, plain []byte }
	exports := map[string][]export{}
	for _, a := range []node.Account{classic, hybrid} {
		for id, m := range all {
			send(t, n, a, id, m.Raw)
		}
		paths := files(t, a.Home)
		var sealed [][]byte
		for _, path := range paths { // locked: no key is needed
			sealed = append(sealed, []byte(n.Admin("cat", "--sealed", path)))
		}
		n.Unlock(a)
		for i, path := range paths {
			exports[a.Address] = append(exports[a.Address], export{sealed[i], []byte(n.Admin("cat", path))})
		}
		byMount(t, a).mustHave(all)
	}
	n.Stop()

	for _, e := range exports[classic.Address] {
		home := t.TempDir()
		key := write(t, filepath.Join(home, "key"), privateKey(t, n, classic)+"\n")
		file := write(t, filepath.Join(home, "sealed"), string(e.sealed))
		zstdFile := write(t, filepath.Join(home, "zstd"), string(run(t, home, ageTool, "--decrypt", "--identity", key, file)))
		if plain := run(t, home, zstdTool, "--decompress", "--stdout", "--quiet", zstdFile); !bytes.Equal(plain, e.plain) {
			t.Errorf("age and zstd: %s", difference(plain, e.plain))
		}
	}
	ids, err := age.ParseIdentities(strings.NewReader(privateKey(t, n, hybrid)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exports[hybrid.Address] {
		packed, err := age.Decrypt(bytes.NewReader(e.sealed), ids...)
		if err != nil {
			t.Fatal(err)
		}
		r, err := zstd.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(plain, e.plain) {
			t.Errorf("age library: %v, %s", err, difference(plain, e.plain))
		}
	}
	// Nobody else's key opens it.
	file := write(t, filepath.Join(t.TempDir(), "sealed"), string(exports[classic.Address][1].sealed))
	other := filepath.Join(t.TempDir(), "other")
	run(t, t.TempDir(), tool(t, "age-keygen", "age"), "--output", other)
	if out, err := exec.Command(ageTool, "--decrypt", "--identity", other, file).Output(); err == nil {
		t.Errorf("another key opens it: %.100q", out)
	}
}

// privateKey takes an account's private key out of its slot, in the data folder of a node that does not run.
func privateKey(t *testing.T, n *node.Node, a node.Account) string {
	t.Helper()
	store, err := raftstore.Open(t.Context(), raftstore.Config{Dir: filepath.Join(n.Data, "store"), NodeID: "node1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	local, domain, _ := strings.Cut(a.Address, "@")
	found, err := store.Directory().FindAccount(local, domain)
	if err != nil || len(found.Slots) == 0 || found.Slots[0].Kind != "password" {
		t.Fatalf("%v, %v", found, err)
	}
	s, err := slot.Unmarshal(found.Slots[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	id, err := slot.Unwrap(s, uint64(found.Number), []byte(a.Password))
	if err != nil {
		t.Fatal(err)
	}
	key, err := id.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}
