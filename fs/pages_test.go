package fs

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What could not be committed is not to be read in place of what is.
func TestFailedCommitsLeaveNoPages(t *testing.T) {
	s := startServer(t, 1)
	s.do("unlock small")
	path := s.home("small") + "/f"
	text := strings.Repeat("committed\n", 1000)
	write(t, path, text)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	refused := strings.Repeat("refused!\n", 20_000)
	_, err = f.WriteString(refused)
	must(t, err)
	wantText(t, path, refused)
	wantErr(t, "over quota", f.Close(), syscall.EDQUOT)
	eventually(t, "what is committed is read", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == text && stat(t, path).Size == int64(len(text))
	})
}

// Who reads through the kernel's pages sees what others have written past them. Newer kernels (6.18) see to it themselves, before and
// after the writing; 6.1 does not.
func TestWritesPastThePages(t *testing.T) {
	const size, page = 4 << 20, 4096
	s := startServer(t, 1)
	s.do("unlock alice")
	path := s.home("alice") + "/f"
	write(t, path, strings.Repeat("x", size))
	r, err := os.Open(path)
	must(t, err)
	defer r.Close()
	last := func() byte {
		b := make([]byte, page)
		r.ReadAt(b, size-page)
		return b[0]
	}
	for i := range 10 {
		want := byte('a' + i)
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		stop := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					last()
				}
			}
		})
		_, err = w.WriteAt(bytes.Repeat([]byte{want}, size), 0)
		close(stop)
		reader.Wait()
		must(t, err)
		must(t, w.Close())
		eventually(t, "what was written is read", func() bool { return last() == want })
	}
}

// An index of changes is asked for once: of those that were closed, nothing is kept.
func TestIndexesOfChangesAreForgotten(t *testing.T) {
	s := startServer(t, 1)
	home := s.home("alice")
	for i := range 100 {
		if _, err := os.ReadFile(fmt.Sprint(home, "/.mailraft-index@", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.ReadFile(home + "/.mailraft-index"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the folder's own index is left at most", func() bool { return s.count("indexes") <= 1 })
}
