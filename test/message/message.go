package message

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Message is one message, as a client is to send it.
type Message struct {
	Name string // says what is special about it
	Raw  []byte // before any dot-stuffing; nobody changes it
}

// Canonical is what must come back of a message sent by SMTP's DATA: every bare LF is CRLF, a bare CR and everything else stays, and
// what does not end a line gets its CRLF, without which the end of the data could not be told (RFC 5321, 4.1.1.4). Nothing stays
// nothing.
func Canonical(raw []byte) []byte {
	b := make([]byte, 0, len(raw)+bytes.Count(raw, []byte("\n"))+2)
	for i, c := range raw {
		if c == '\n' && (i == 0 || raw[i-1] != '\r') {
			b = append(b, '\r')
		}
		b = append(b, c)
	}
	if len(b) > 0 && !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, '\r', '\n')
	}
	return b
}

// CorpusEnv is the variable that names the folder of real messages.
const CorpusEnv = "MAILRAFT_CORPUS"

// Corpus reads the messages of the folder that CorpusEnv names: all files in its folders (those at its top describe it), in the
// order of their paths. Without the variable there are none.
func Corpus() ([]Message, error) {
	root := os.Getenv(CorpusEnv)
	if root == "" {
		return nil, nil
	}
	var all []Message
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || !strings.Contains(name, "/") {
			return err
		}
		raw, err := os.ReadFile(path)
		all = append(all, Message{name, raw})
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s: no message in any folder below %s", CorpusEnv, root)
	}
	return all, err
}
