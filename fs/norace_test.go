//go:build !race

package fs

// memoryAllowed is how much delivering a message of 50 MiB may take, in KiB: about twice its size.
const memoryAllowed = 105 << 10
