// Command mailraft is a mail server whose mail lies sealed in a replicated store and is seen through a mounted file system:
// the daemon, its proxies, and the admin's commands, in one program.
package main

import (
	"os"

	"mailraft/cmd/mailraft/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
