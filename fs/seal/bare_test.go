package seal

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
)

// What is sealed bare is the message to age alone, and of the size that was foretold.
func TestBare(t *testing.T) {
	for _, kind := range []Kind{Hybrid, X25519} {
		id, err := GenerateIdentity(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 5000, ageChunk - 1, ageChunk, ageChunk + 1, 3*ageChunk + 7} {
			message := bytes.Repeat([]byte("line\r\n"), size/6+1)[:size]
			p, err := Prepare(id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := p.SealBare([]byte("before"), message)
			if err != nil {
				t.Fatal(err)
			}
			sealed, _ = bytes.CutPrefix(sealed, []byte("before"))
			if want := id.Recipient().BareSize(int64(size)); int64(len(sealed)) != want {
				t.Errorf("%v, %d: %d bytes, %d foretold", kind, size, len(sealed), want)
			}
			if err := CheckHeader(sealed); err != nil {
				t.Error(err)
			}
			r, err := age.Decrypt(bytes.NewReader(sealed), id.s.key())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%v, %d: %d bytes, %v", kind, size, len(got), err)
			}
			if _, err := p.SealBare(nil, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("used twice: %v", err)
			}
		}
	}
}
