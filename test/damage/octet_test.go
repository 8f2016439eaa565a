package damage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mailraft/test/message"
	"mailraft/test/node"
)

// TestOneOctet damages one octet of a stopped node, at seeded places over all its files. The daemon has to refuse to start,
// naming its data folder, or to serve: then each message is whole, or its reading fails with EIO. fsck has to find what stops
// the daemon or a reader. (MAILRAFT_DAMAGES sets how many octets are tried.)
func TestOneOctet(t *testing.T) {
	count := 24
	if s := os.Getenv("MAILRAFT_DAMAGES"); s != "" {
		_, err := fmt.Sscan(s, &count)
		must(t, err)
	}
	n := node.New(t, node.Flags("--shards", "1", "--min-free", "1M"))
	n.Start()
	a := n.AddAccount("alice@example.org")
	want := deliver(t, a, 40)
	n.Stop()
	whole := n.Data + ".whole"
	must(t, os.Rename(n.Data, whole))
	t.Cleanup(func() { must(t, os.RemoveAll(whole)) })

	r := rand.New(rand.NewPCG(4, 4))
	places := places(t, whole, r)
	outcomes := map[string]int{}
	for i := range count {
		p := places[i%len(places)]
		bit := byte(1 + r.IntN(255))
		t.Run(fmt.Sprintf("%d %s at %d", i, p.file, p.at), func(t *testing.T) {
			if out, err := exec.Command("cp", "-a", "--sparse=always", whole, n.Data).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v: %s", err, out)
			}
			defer func() { must(t, os.RemoveAll(n.Data)) }()
			path := filepath.Join(n.Data, p.file)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			octet := make([]byte, 1)
			_, err = f.ReadAt(octet, p.at)
			must(t, err)
			octet[0] ^= bit
			_, err = f.WriteAt(octet, p.at)
			must(t, errors.Join(err, f.Close()))
			outcome, found := survives(t, n, a, want)
			if outcome != "serves all" && !found && !strings.HasPrefix(p.file, "tls/") { // fsck looks at what is stored
				t.Errorf("%s, but fsck finds nothing", outcome)
			}
			outcomes[outcome]++
			t.Log(outcome)
		})
	}
	t.Logf("outcomes: %v", outcomes)
}

// deliver puts messages of up to 64 KB into an account, by the mount, and answers them by name. Larger ones would do the same, but
// for each reading of a damaged block Pebble tries which bit may have flipped, some 300,000 checksums of the block.
func deliver(t *testing.T, a node.Account, count int) map[string][]byte {
	t.Helper()
	messages := map[string][]byte{}
	for i := range count {
		text := message.Text(uint64(i), 100+i*i*40)
		name := fmt.Sprintf("1700000000.%d.host", i)
		tmp := filepath.Join(a.Home, "tmp", name)
		must(t, os.WriteFile(tmp, text, 0o600))
		must(t, os.Link(tmp, filepath.Join(a.Home, "new", name)))
		must(t, os.Remove(tmp))
		messages[name] = text
	}
	return messages
}

// survives checks and starts the damaged node, and says what came of it and whether fsck had found something.
func survives(t *testing.T, n *node.Node, a node.Account, want map[string][]byte) (outcome string, found bool) {
	found = fsck(t, n)
	d := try(t, n)
	if !d.serves {
		if d.panicked() || !strings.Contains(d.said(), n.Data) {
			t.Errorf("it ends without naming its data folder:\n%s", d.said())
		}
		return "refuses", found
	}
	defer func() {
		d.stop(t, n)
		if d.panicked() {
			t.Errorf("panic:\n%s", d.said())
		}
	}()
	if u := n.Try(a.Password+"\n", "unlock", a.Address, "--password-stdin"); u.Code != 0 {
		if strings.TrimSpace(u.Stderr) == "" {
			t.Errorf("unlock fails without a word")
		}
		return "does not unlock", found
	}
	bad := 0
	entries, err := os.ReadDir(filepath.Join(a.Home, "new"))
	if err != nil {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("listing: %v", err)
		}
		return "does not list", found
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		b, err := os.ReadFile(filepath.Join(a.Home, "new", e.Name()))
		switch {
		case errors.Is(err, syscall.EIO):
			bad++
			if !strings.Contains(d.said(), "ERROR") && !strings.Contains(d.said(), "WARN") {
				t.Errorf("reading %s fails, and the log does not say why", e.Name())
			}
		case err != nil:
			t.Errorf("reading %s: %v", e.Name(), err)
		case !bytes.Equal(b, want[e.Name()]):
			t.Errorf("%s is served wrong", e.Name())
		}
	}
	if !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		t.Errorf("of %d messages, %d are there, and nothing said that some are not", len(want), len(names))
	}
	if bad > 0 {
		return "serves all but what is damaged", found
	}
	return "serves all", found
}

// fsck says whether the check of the stopped node finds anything.
func fsck(t *testing.T, n *node.Node) (found bool) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.Command()[0], "fsck", "--data", n.Data).CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("fsck did not end in %v; it wrote:\n%s", patience, out)
	}
	if bytes.Contains(out, []byte("goroutine ")) {
		t.Errorf("fsck panics:\n%s", out)
	}
	return err != nil
}

// place is an octet of a stopped node.
type place struct {
	file string
	at   int64
}

// places draws octets: each file has its turn, and of a file those that are not zero mostly.
func places(t *testing.T, dir string, r *rand.Rand) []place {
	files := filesBelow(t, dir)
	var all []place
	for range 100 {
		r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		for _, path := range files {
			b, err := os.ReadFile(path)
			must(t, err)
			if len(b) == 0 {
				continue
			}
			at := r.IntN(len(b))
			if data := len(bytes.TrimRight(b, "\x00")); data > 0 && r.IntN(8) != 0 {
				at = r.IntN(data)
			}
			all = append(all, place{strings.TrimPrefix(path, dir+"/"), int64(at)})
		}
		if len(all) > 400 {
			break
		}
	}
	return all
}

// filesBelow lists the regular files below dir, in order.
func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}
