// Command demo does with a freshly built mailraft what its quickstart tells a newcomer to do, with the very commands that it
// prints, and checks each step. It needs root, curl and nc; it works in a folder of its own, on free ports, and leaves nothing
// behind. The exit code is 0 only when every step held.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	binary := flag.String("mailraft", "bin/mailraft", "the program to try")
	flag.Parse()
	path, err := filepath.Abs(*binary)
	if err == nil {
		err = demo(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: FAILED:", err)
		os.Exit(1)
	}
	fmt.Println("demo: every step held")
}

const (
	message = "A first message."
	locked  = "Required key not available"
)

func demo(binary string) (err error) {
	dir, err := os.MkdirTemp("", "mailraft-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	say("start a node in a new folder")
	n, err := start(binary, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			n.kill()
		}
	}()
	if n.password == "" {
		return fmt.Errorf("no password was printed at the first start")
	}
	if err := n.receive(); err != nil {
		return err
	}
	if err := n.unlockAndLock(); err != nil {
		return err
	}
	if err := n.read(); err != nil {
		return err
	}

	say("stop it, and start it again")
	if err := n.stop(); err != nil {
		return err
	}
	password := n.password
	if n, err = start(binary, dir); err != nil {
		return err
	}
	if n.password != "" {
		return fmt.Errorf("a second start made another password")
	}
	n.password = password
	if err := n.read(); err != nil {
		return err
	}
	return n.stop()
}

// receive sends messages and looks at what lies under the mount.
func (n *node) receive() error {
	say("send a message by SMTP, and one by LMTP")
	if err := n.try("printf 'From:", ""); err != nil {
		return err
	}
	if err := n.try("printf 'LHLO", "250 2.0.0"); err != nil {
		return err
	}
	say("both lie under the mount, and cannot be read")
	if err := n.try("ls -l", "-rw-------"); err != nil {
		return err
	}
	if err := n.refused("cat", locked); err != nil {
		return err
	}
	say("nor does anything that is stored have a word of them")
	return n.run("! grep -r -a -F '"+message+"' data", "")
}

// unlockAndLock reads the messages as files while the account is unlocked.
func (n *node) unlockAndLock() error {
	say("with a wrong password the account stays locked")
	unlock := n.command("mailraft", "unlock") + " --password-stdin"
	if err := n.run("! echo wrong | "+unlock, "wrong password"); err != nil {
		return err
	}
	say("unlocked, they are files like others")
	if err := n.run("echo '"+n.password+"' | "+unlock, "is unlocked"); err != nil {
		return err
	}
	if err := n.try("cat", message); err != nil {
		return err
	}
	say("locked again, they are not")
	if err := n.run(n.command("mailraft", " lock"), "is locked"); err != nil {
		return err
	}
	return n.refused("cat", locked)
}

// read reads the message by its owner's protocols.
func (n *node) read() error {
	say("read it by IMAP and by POP3, with the password")
	for _, protocol := range []string{"imaps://", "pop3s://"} {
		fetch := strings.ReplaceAll(n.command("curl", protocol), ":PASSWORD'", ":"+n.password+"'")
		if err := n.run(fetch, message); err != nil {
			return err
		}
		if err := n.run("! "+strings.ReplaceAll(fetch, n.password, "wrong"), ""); err != nil {
			return err
		}
	}
	say("write as its owner, and as nobody else")
	write := strings.ReplaceAll(n.command("printf", "smtps://"), ":PASSWORD'", ":"+n.password+"'")
	if err := n.run(write, ""); err != nil {
		return err
	}
	for _, wrong := range []string{strings.ReplaceAll(write, n.password, "wrong"), strings.Replace(write, "From: alice@", "From: bob@", 1)} {
		if err := n.run("! { "+wrong+"; }", ""); err != nil {
			return err
		}
	}
	say("the node says that all is well")
	return n.run(n.command("mailraft", "status"), "All is well.")
}

func say(what string) { fmt.Println("demo:", what) }
