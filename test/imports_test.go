package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// below says what each of the four houses may use of this module, itself apart: imports point down. A proxy that cannot reach keys and
// replicas in its own program text cannot leak them; a store that knows no file system can serve another.
var below = map[string][]string{
	"mailraft/raftstore": nil,
	"mailraft/fs":        {"mailraft/raftstore"},
	"mailraft/proxy":     nil,
	"mailraft/cmd":       {"mailraft/raftstore", "mailraft/fs", "mailraft/proxy"},
}

// house is the part of the module that a package, or a test's program, belongs to: "mailraft/fs" for mailraft/fs/seal, "" for what is
// not of the module.
func house(pkg string) string {
	words := strings.SplitN(pkg, "/", 3)
	if words[0] != "mailraft" || len(words) < 2 {
		return ""
	}
	return words[0] + "/" + strings.TrimSuffix(words[1], ".test")
}

// Imports point down, of all packages that are built and of their tests, directly and through others.
func TestImportsPointDown(t *testing.T) {
	for from, may := range below {
		// With -test, the packages that a test is compiled from are named "package [package.test]".
		list := exec.Command("go", "list", "-deps", "-test", "-f", "{{.ImportPath}}", from+"/...")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("%v: %v", list.Args, err)
		}
		packages := strings.Fields(string(out))
		if !slices.ContainsFunc(packages, func(p string) bool { return house(p) == from }) {
			t.Errorf("%s has no package", from)
		}
		for _, p := range packages {
			if h := house(p); h != "" && h != from && !slices.Contains(may, h) {
				t.Errorf("%s depends on %s", from, p)
			}
		}
	}
}
