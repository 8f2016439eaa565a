package fs

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"mailraft/raftstore/tree"
)

// tellUse has the keyring told, when it asks, which accounts are in use here without a request being made: those with open files and
// folders, and those that a process is in, as its working directory (which is why a file system cannot be unmounted). A mail server that
// works for somebody goes to that one's home, and then may wait for hours. path is where the mount is; if it cannot be told apart from
// other file systems, the error says why, and processes in it do not count.
func (m *mount) tellUse(path string) error {
	keys := m.cfg.Keys
	keys.AskUse(func() {
		if !m.serving.Load() {
			return
		}
		for a := range m.handles.accounts() {
			keys.Use(uint64(a))
		}
	})
	if m.cfg.Beside == nil { // the processes are looked through once for all mounts
		keys.AskUse(func() { m.places.tell(keys.Use) })
	}
	return m.places.add(path)
}

// places knows the mounts by their devices, to find which accounts processes are in.
type places struct {
	mu      sync.Mutex
	devices map[uint64]struct{}
}

func newPlaces() *places { return &places{devices: map[uint64]struct{}{}} }

func (p *places) add(path string) error {
	device, _, err := identify(path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[device] = struct{}{}
	return nil
}

func (p *places) has(device uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.devices[device]
	return ok
}

// tell calls use for the accounts that processes are in. Processes of another PID namespace than this one's, or below it, are not seen.
func (p *places) tell(use func(account uint64)) {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		device, i, err := identify("/proc/" + name + "/cwd")
		if err != nil || !p.has(device) { // it has ended, or is elsewhere
			continue
		}
		if a := i.Account(); a != 0 && !isVirtual(i) {
			use(uint64(a))
		}
	}
}

// identify tells which directory it is from what the kernel knows. No server is asked, of which this process is one.
func identify(path string) (device uint64, i tree.Ino, err error) {
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st)
	return unix.Mkdev(st.Dev_major, st.Dev_minor), tree.Ino(st.Ino), err
}
