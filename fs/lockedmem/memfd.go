package lockedmem

import "golang.org/x/sys/unix"

// secretMemory is mapSecret, but in tests.
var secretMemory = mapSecret

// mapSecret maps memory that the kernel itself has unmapped (memfd_secret(2): Linux 5.14, switched on since 6.5); nil: there is none. It
// is locked and in no dump by its nature. A machine that has some can't hibernate.
func mapSecret(size int) []byte {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil
	}
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	if err := unix.Madvise(memory, unix.MADV_DONTFORK); err != nil {
		unix.Munmap(memory)
		return nil
	}
	return memory
}
