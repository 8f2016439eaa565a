//go:build race

package fs

// memoryAllowed is how much delivering a message of 50 MiB may take, in KiB: the race detector doubles it.
const memoryAllowed = 210 << 10
