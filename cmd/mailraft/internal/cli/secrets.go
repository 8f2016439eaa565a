package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the terminal that the person who typed the command sits at; nil: nobody does.
func (p *program) terminal() *os.File {
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// interruptible waits for read, which waits for a person, unless ctx is done before.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := read()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// askSecret asks for a password, which is not shown.
func (p *program) askSecret(ctx context.Context, prompt string) ([]byte, error) {
	t := p.terminal()
	if t == nil {
		return nil, usage("there is no terminal to ask for the password; use --password-stdin")
	}
	fd := int(t.Fd())
	show, err := hide(fd) // before the prompt: some type fast
	if err != nil {
		return nil, err
	}
	defer show()
	fmt.Fprint(p.stderr, prompt)
	b, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(p.stderr)
	if err == nil && len(b) == 0 {
		err = refused("the password is empty")
	}
	return b, err
}

// secret reads a password: from standard input, or as askSecret.
func (p *program) secret(ctx context.Context, prompt string, fromStdin bool) ([]byte, error) {
	if !fromStdin {
		return p.askSecret(ctx, prompt)
	}
	lines, err := p.lines(1)
	if err != nil {
		return nil, err
	}
	return lines[0], nil
}

// hide has the terminal not show what is typed.
func hide(fd int) (show func(), err error) {
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	silent := *was
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, was) }, nil
}

// askNewSecret asks twice.
func (p *program) askNewSecret(ctx context.Context, what string) ([]byte, error) {
	first, err := p.askSecret(ctx, "New password for "+what+": ")
	if err != nil {
		return nil, err
	}
	second, err := p.askSecret(ctx, "The same again: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		return nil, refused("the two passwords differ")
	}
	return first, nil
}

// lines reads n lines from standard input: one password each.
func (p *program) lines(n int) ([][]byte, error) {
	r := bufio.NewReader(p.stdin)
	var all [][]byte
	for range n {
		line, err := r.ReadBytes('\n')
		if err != nil && !(errors.Is(err, io.EOF) && len(line) > 0) {
			if errors.Is(err, io.EOF) {
				return nil, usage("standard input has %d lines, %d passwords are needed", len(all), n)
			}
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return nil, refused("the password is empty")
		}
		all = append(all, line)
	}
	return all, nil
}

// confirm has the person type what is about to be destroyed.
func (p *program) confirm(ctx context.Context, warning, what string) error {
	if p.terminal() == nil {
		return refused("%s\nThere is no terminal to confirm it at; use --yes", warning)
	}
	fmt.Fprintf(p.stderr, "%s\nType %s to go on: ", warning, what)
	line, err := interruptible(ctx, func() (string, error) { return bufio.NewReader(p.stdin).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != what {
		return refused("not confirmed; nothing was changed")
	}
	return nil
}
