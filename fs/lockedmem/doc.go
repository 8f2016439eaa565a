// Package lockedmem keeps small secrets outside of Go's heap: in pages that are never swapped out, are in no core dump, and are not
// inherited by a process that is forked; where the kernel has memfd_secret(2), not even root reads them through /proc.
//
// What is copied out of it, to be used, is the caller's to wipe.
package lockedmem
