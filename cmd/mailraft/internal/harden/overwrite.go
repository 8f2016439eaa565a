package harden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Overwriting is what a process's GODEBUG has to have for Go's collector to overwrite what it frees (package runtime, "clobberfree").
// Libraries leave copies of passwords, of keys and of mail on the heap, which nobody else can wipe.
const Overwriting = "clobberfree=1"

// Overwrite starts the program anew, as the same process, unless its collector overwrites what it frees: the runtime asks for that as it
// starts. Call it before anything else.
func Overwrite() error {
	debug := os.Getenv("GODEBUG")
	if strings.Contains(debug, Overwriting) {
		// ps, top and pkill know it by its name, and not as "exe".
		return os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	}
	if debug != "" {
		debug += ","
	}
	if err := os.Setenv("GODEBUG", debug+Overwriting); err != nil {
		return err
	}
	return fmt.Errorf("start again: %w", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}
