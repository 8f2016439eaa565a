package lockedmem

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is what the kernel says of the mapping there (proc_pid_smaps(5)); "": none does.
func mapped(t *testing.T, at uintptr) (flags string) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			here = from <= at && at < to
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && here {
			return rest + " "
		}
	}
	return ""
}

func TestSecretsAreInLockedMemory(t *testing.T) {
	t.Run("as the kernel has it", inLockedMemory)
	t.Run("without memfd_secret", func(t *testing.T) { // Debian 12
		secretMemory = func(int) []byte { return nil }
		defer func() { secretMemory = mapSecret }()
		inLockedMemory(t)
	})
}

func inLockedMemory(t *testing.T) {
	s := Keep([]byte("a secret"))
	at := uintptr(unsafe.Pointer(&s.b[0]))
	flags := mapped(t, at)
	if !strings.Contains(flags, " lo ") || !strings.Contains(flags, " dd ") || !strings.Contains(flags, " dc ") && !strings.Contains(flags, " wf ") {
		t.Errorf("flags of the mapping: %q, want locked (lo), not dumped (dd), not inherited (dc, or wf)", flags)
	}
	if mapping := s.region.mapping; len(mapping) > regionSize {
		for _, guard := range [][]byte{mapping[:1], mapping[len(mapping)-1:]} {
			if flags := mapped(t, uintptr(unsafe.Pointer(&guard[0]))); flags == "" || strings.Contains(flags, " rd ") {
				t.Errorf("what lies beside: %q", flags)
			}
		}
	}
	slot := s.b // stays mapped as long as there is another
	if err := s.Use(func(b []byte) {
		if string(b) != "a secret" {
			t.Errorf("%q", b)
		}
	}); err != nil {
		t.Error(err)
	}
	other := Keep([]byte("another"))
	s.Free()
	if !bytes.Equal(slot, make([]byte, len(slot))) {
		t.Error("not wiped")
	}
	if err := s.Use(func([]byte) { t.Error("used after it was freed") }); !errors.Is(err, ErrFreed) || !s.Freed() {
		t.Error(err)
	}
	s.Free()
	other.Free()
	if flags := mapped(t, at); strings.Contains(flags, " lo ") {
		t.Errorf("the memory is still there: %q", flags)
	}
}

// A region is used again as long as it holds something, and no two secrets share a slot.
func TestSlots(t *testing.T) {
	var all []*Secret
	for i := range 2*slots + 1 {
		all = append(all, Keep(fmt.Append(nil, i)))
	}
	if n := len(regions.list); n != 3 {
		t.Errorf("%d regions", n)
	}
	for i := range slots / 2 {
		all[i].Free()
		all[i] = Keep(fmt.Append(nil, i))
	}
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			if err := s.Use(func(b []byte) {
				if string(b) != fmt.Sprint(i) {
					t.Errorf("%d is %q", i, b)
				}
			}); err != nil {
				t.Error(err)
			}
			s.Free()
		})
	}
	wg.Wait()
	if n := len(regions.list); n != 0 {
		t.Errorf("%d regions are left", n)
	}
}

// TestWithoutALimit takes the right to lock memory from a process of its own: secrets are kept all the same.
func TestWithoutALimit(t *testing.T) {
	if os.Getenv("LOCKEDMEM_LIMITED") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestWithoutALimit$", "-test.v")
		cmd.Env = append(os.Environ(), "LOCKEDMEM_LIMITED=1")
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Count(out, []byte("keys may be swapped out")) != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		t.Fatal(err)
	}
	// Whose user is another has the limit.
	if err := unix.Setuid(5000); err != nil {
		t.Fatal(err)
	}
	for range slots + 1 {
		s := Keep([]byte("a secret"))
		if flags := mapped(t, uintptr(unsafe.Pointer(&s.b[0]))); strings.Contains(flags, " lo ") || !strings.Contains(flags, " dd ") {
			t.Fatalf("flags: %q", flags)
		}
		if err := s.Use(func(b []byte) {
			if string(b) != "a secret" {
				t.Errorf("%q", b)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
