package slot_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
	"pgregory.net/rapid"

	"mailraft/fs/seal"
	"mailraft/fs/seal/slot"
)

// quick are the cheapest parameters that are served: tests are about what is bound, not about the cost.
var quick = slot.Params{Passes: 1, Memory: 8, Threads: 1}

func newIdentity(t testing.TB, kind seal.Kind) seal.Identity {
	t.Helper()
	id, err := seal.GenerateIdentity(kind)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wrap(t testing.TB, id seal.Identity, password string, account, number uint64) *slot.Slot {
	t.Helper()
	s, err := slot.Wrap(id, []byte(password), quick, slot.Binding{Account: account, Slot: number, Kind: slot.Password})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWrapUnwrap(t *testing.T) {
	for kind, size := range map[seal.Kind]int{seal.Hybrid: 155, seal.X25519: 152} {
		id := newIdentity(t, kind)
		s := wrap(t, id, "correct horse", 7, 3)
		record := s.Marshal()
		if len(record) != size {
			t.Errorf("%v: record of %d bytes, docs say %d", kind, len(record), size)
		}
		encoded, err := id.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(record, encoded[20:40]) {
			t.Errorf("%v: the record holds the key", kind)
		}
		s, err = slot.Unmarshal(record)
		if err != nil {
			t.Fatal(err)
		}
		got, err := slot.Unwrap(s, 7, []byte("correct horse"))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.Encode(); err != nil || !bytes.Equal(again, encoded) {
			t.Errorf("%v: another key came out: %v", kind, err)
		}
		for _, wrong := range []string{"", "correct hors", "correct horse ", "Correct horse"} {
			if _, err := slot.Unwrap(s, 7, []byte(wrong)); !errors.Is(err, slot.ErrWrongPassword) {
				t.Errorf("%v: password %q: %v", kind, wrong, err)
			}
		}
		if _, err := slot.Unwrap(s, 8, []byte("correct horse")); !errors.Is(err, slot.ErrWrongPassword) {
			t.Errorf("%v: in another account: %v", kind, err)
		}
	}
}

func recovery(t testing.TB, id seal.Identity, secret []byte) *slot.Slot {
	t.Helper()
	s, err := slot.Wrap(id, secret, slot.Params{}, slot.Binding{Account: 1, Slot: 2, Kind: slot.Recovery})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRecovery: a random secret opens its slot, without Argon2id, and nothing else does.
func TestRecovery(t *testing.T) {
	id := newIdentity(t, seal.Hybrid)
	secret := bytes.Repeat([]byte{7}, slot.SecretSize)
	record := recovery(t, id, secret).Marshal()
	if len(record) != 155 {
		t.Errorf("record of %d bytes, docs say 155", len(record))
	}
	s, err := slot.Unmarshal(record)
	if err != nil {
		t.Fatal(err)
	}
	got, err := slot.Unwrap(s, 1, secret)
	if err != nil || got.Recipient().String() != id.Recipient().String() {
		t.Error("another key came out:", err)
	}
	for _, wrong := range [][]byte{nil, secret[1:], bytes.Repeat([]byte{8}, slot.SecretSize)} {
		if _, err := slot.Unwrap(s, 1, wrong); !errors.Is(err, slot.ErrWrongPassword) {
			t.Errorf("%x: %v", wrong, err)
		}
	}
	if _, err := slot.Wrap(id, secret, quick, slot.Binding{Kind: slot.Recovery}); !errors.Is(err, slot.ErrParams) {
		t.Error("with parameters of Argon2id:", err)
	}
	if _, err := slot.Wrap(id, []byte("weak"), slot.Params{}, slot.Binding{Kind: slot.Recovery}); !errors.Is(err, slot.ErrParams) {
		t.Error("of few octets:", err)
	}
	everyByteIsBound(t, record, secret)
}

// TestSCRAM: RFC 7677's example logs in by its proof (section 3), which opens the slot; no other proof does, and what is stored neither.
func TestSCRAM(t *testing.T) {
	id := newIdentity(t, seal.Hybrid)
	s, err := slot.Wrap(id, []byte("pencil"), slot.Params{Passes: 4096}, slot.Binding{Account: 1, Slot: 2, Kind: slot.SCRAM})
	if err != nil {
		t.Fatal(err)
	}
	record := s.Marshal()
	if len(record) != 155+64 {
		t.Errorf("record of %d bytes, docs say 219", len(record))
	}
	if s, err = slot.Unmarshal(record); err != nil {
		t.Fatal(err)
	}
	client, err := scram.SHA256.NewClient("user", "pencil", "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(s.Salt[:]), Iters: 4096})
	if err != nil || !bytes.Equal(stored.StoredKey, s.SCRAM.StoredKey[:]) || !bytes.Equal(stored.ServerKey, s.SCRAM.ServerKey[:]) {
		t.Fatalf("another program makes %x of it: %v", stored, err)
	}
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	example, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	proof, _ := base64.StdEncoding.DecodeString("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	v := slot.Verifier{StoredKey: [32]byte(example.StoredKey)}
	key, err := v.ClientKey(message, proof)
	if err != nil || sha256.Sum256(key) != v.StoredKey {
		t.Fatalf("the example's proof: %x, %v", key, err)
	}
	for _, wrong := range [][]byte{nil, proof[1:], append(proof, 0), bytes.Repeat([]byte{1}, 32)} {
		if _, err := v.ClientKey(message, wrong); !errors.Is(err, slot.ErrWrongPassword) {
			t.Errorf("%x: %v", wrong, err)
		}
	}
	clientKey := clientKey(t, "pencil", s)
	got, err := slot.Unwrap(s, 1, clientKey)
	if err != nil || got.Recipient().String() != id.Recipient().String() {
		t.Error("another key came out:", err)
	}
	for _, wrong := range [][]byte{nil, []byte("pencil"), s.SCRAM.StoredKey[:], s.SCRAM.ServerKey[:]} {
		if _, err := slot.Unwrap(s, 1, wrong); !errors.Is(err, slot.ErrWrongPassword) {
			t.Errorf("%x: %v", wrong, err)
		}
	}
	everyByteIsBound(t, record, clientKey)
	for _, wrong := range []slot.Params{{}, quick, {Passes: 4095}, {Passes: slot.MaxIterations + 1}, {Passes: 4096, Threads: 1}} {
		if _, err := slot.Wrap(id, []byte("pencil"), wrong, slot.Binding{Kind: slot.SCRAM}); !errors.Is(err, slot.ErrParams) {
			t.Errorf("with %+v: %v", wrong, err)
		}
	}
}

// clientKey is a SCRAM client's of a password (RFC 5802, 3).
func clientKey(t testing.TB, password string, s *slot.Slot) []byte {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, s.Salt[:], int(s.Params.Passes), sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, salted)
	h.Write([]byte("Client Key"))
	return h.Sum(nil)
}

// TestApp: an app password's characters open its slot, as a recovery code's octets do theirs; they can't be exchanged.
func TestApp(t *testing.T) {
	id := newIdentity(t, seal.X25519)
	secret := []byte("abcdeabcdeabcdeabcde")
	app, err := slot.Wrap(id, secret, slot.Params{}, slot.Binding{Account: 1, Slot: 2, Kind: slot.App})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := slot.Unwrap(app, 1, secret); err != nil || got.Recipient().String() != id.Recipient().String() {
		t.Error("another key came out:", err)
	}
	other := *app
	other.Kind = slot.Recovery
	if _, err := slot.Unwrap(&other, 1, secret); !errors.Is(err, slot.ErrWrongPassword) {
		t.Error("as a recovery code:", err)
	}
	everyByteIsBound(t, app.Marshal(), secret)
}

func TestDefaultParams(t *testing.T) {
	id := newIdentity(t, seal.X25519)
	s, err := slot.Wrap(id, []byte("pw"), slot.DefaultParams, slot.Binding{Account: 1, Slot: 1, Kind: slot.Password})
	if err != nil {
		t.Fatal(err)
	}
	if s.Params != (slot.Params{Passes: 3, Memory: 65536, Threads: 4}) {
		t.Fatalf("not RFC 9106's second recommended option: %+v", s.Params)
	}
	got, err := slot.NewGate(1).Unwrap(t.Context(), "", s, 1, []byte("pw"))
	if err != nil || got.Recipient().String() != id.Recipient().String() {
		t.Fatal(err)
	}
}

// No byte of a record can be changed without its being refused.
func TestEveryByteIsBound(t *testing.T) {
	everyByteIsBound(t, wrap(t, newIdentity(t, seal.X25519), "pw", 1, 2).Marshal(), []byte("pw"))
}

func everyByteIsBound(t *testing.T, record, secret []byte) {
	t.Helper()
	for i := range record {
		changed := bytes.Clone(record)
		changed[i] ^= 1
		s, err := slot.Unmarshal(changed)
		if err == nil {
			_, err = slot.Unwrap(s, 1, secret)
		}
		if !errors.Is(err, slot.ErrWrongPassword) && !errors.Is(err, slot.ErrRecord) && !errors.Is(err, slot.ErrParams) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func TestHostileParams(t *testing.T) {
	id := newIdentity(t, seal.X25519)
	for _, p := range []slot.Params{
		{},
		{Passes: 1, Memory: 100 << 20, Threads: 1}, // 100 GiB
		{Passes: 1, Memory: 1<<32 - 1, Threads: 1},
		{Passes: 1<<32 - 1, Memory: 64 << 10, Threads: 4},
		{Passes: 64, Memory: 1 << 20, Threads: 4}, // each within bounds, too much work together
		{Passes: 1, Memory: 64 << 10, Threads: 255},
		{Passes: 1, Memory: 64 << 10, Threads: 0},
		{Passes: 1, Memory: 15, Threads: 2},
	} {
		if _, err := slot.Wrap(id, nil, p, slot.Binding{Kind: slot.Password}); !errors.Is(err, slot.ErrParams) {
			t.Errorf("Wrap with %+v: %v", p, err)
		}
		s := wrap(t, id, "pw", 1, 1)
		s.Params = p
		if _, err := slot.Unmarshal(s.Marshal()); !errors.Is(err, slot.ErrParams) {
			t.Errorf("Unmarshal with %+v: %v", p, err)
		}
		if _, err := slot.Unwrap(s, 1, []byte("pw")); !errors.Is(err, slot.ErrParams) {
			t.Errorf("Unwrap with %+v: %v", p, err)
		}
		if _, err := slot.NewGate(1000).Enter(t.Context(), "", p); !errors.Is(err, slot.ErrParams) {
			t.Errorf("Enter with %+v: %v", p, err)
		}
	}
	if _, err := slot.NewGate(2).Enter(t.Context(), "", slot.Params{Passes: 1, Memory: 128<<10 + 1, Threads: 1}); !errors.Is(err, slot.ErrParams) {
		t.Errorf("more memory than the gate has: %v", err)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	good := wrap(t, newIdentity(t, seal.X25519), "pw", 1, 1).Marshal()
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"cut":           good[:len(good)-1],
		"longer":        append(bytes.Clone(good), 0),
		"much longer":   append(bytes.Clone(good), make([]byte, 1000)...),
		"other version": append([]byte{2}, good[1:]...),
		"other kind":    append([]byte{1, 9}, good[2:]...),
		"text":          []byte(strings.Repeat("x", 150)),
	} {
		if _, err := slot.Unmarshal(b); !errors.Is(err, slot.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := slot.Wrap(newIdentity(t, seal.X25519), nil, quick, slot.Binding{Kind: 9}); !errors.Is(err, slot.ErrRecord) {
		t.Errorf("unknown kind: %v", err)
	}
	id := newIdentity(t, seal.X25519)
	id.Wipe()
	if _, err := slot.Wrap(id, nil, quick, slot.Binding{Kind: slot.Password}); !errors.Is(err, seal.ErrWiped) {
		t.Errorf("wiped identity: %v", err)
	}
}

func TestMarshalProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threads := rapid.Uint8Range(1, slot.MaxThreads).Draw(t, "threads")
		s := &slot.Slot{
			ID:     rapid.Uint64().Draw(t, "id"),
			Kind:   slot.Password,
			Params: slot.Params{Passes: rapid.Uint32Range(1, 4).Draw(t, "passes"), Memory: rapid.Uint32Range(8*uint32(threads), 1<<20).Draw(t, "memory"), Threads: threads},
			Sealed: rapid.SliceOfN(rapid.Byte(), 17, 272).Draw(t, "sealed"),
		}
		copy(s.Salt[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt"))
		copy(s.Nonce[:], rapid.SliceOfN(rapid.Byte(), 24, 24).Draw(t, "nonce"))
		b := s.Marshal()
		if len(b) > slot.MaxRecord {
			t.Fatalf("record of %d bytes", len(b))
		}
		again, err := slot.Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID != s.ID || again.Params != s.Params || again.Salt != s.Salt || again.Nonce != s.Nonce || !bytes.Equal(again.Sealed, s.Sealed) {
			t.Fatalf("%+v came back as %+v", s, again)
		}
	})
}

// FuzzMalleability: what is taken as a record is the only encoding of what it says.
func FuzzMalleability(f *testing.F) {
	for _, kind := range []seal.Kind{seal.X25519, seal.Hybrid} {
		f.Add(wrap(f, newIdentity(f, kind), "pw", 1, 1).Marshal())
		f.Add(recovery(f, newIdentity(f, kind), make([]byte, slot.SecretSize)).Marshal())
		s, err := slot.Wrap(newIdentity(f, kind), []byte("pencil"), slot.Params{Passes: 4096}, slot.Binding{Kind: slot.SCRAM})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := slot.Unmarshal(b)
		if err != nil {
			if !errors.Is(err, slot.ErrRecord) && !errors.Is(err, slot.ErrParams) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		ok := s.Params == slot.Params{}
		switch s.Kind {
		case slot.Password:
			ok = s.Params.Check() == nil
		case slot.SCRAM:
			ok = s.Params == slot.Params{Passes: max(4096, s.Params.Passes)}
		}
		if !ok {
			t.Fatalf("%+v of a %v slot", s.Params, s.Kind)
		}
		if again := s.Marshal(); !bytes.Equal(again, b) {
			t.Fatalf("two encodings:\n%x\n%x", b, again)
		}
	})
}

func BenchmarkUnwrapDefault(b *testing.B) {
	id := newIdentity(b, seal.Hybrid)
	s, err := slot.Wrap(id, []byte("pw"), slot.DefaultParams, slot.Binding{Kind: slot.Password})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := slot.Unwrap(s, 0, []byte("pw")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrapSCRAM is what a password that is set costs beside Argon2id.
func BenchmarkWrapSCRAM(b *testing.B) {
	id := newIdentity(b, seal.Hybrid)
	for b.Loop() {
		if _, err := slot.Wrap(id, []byte("pencil"), slot.Params{Passes: slot.DefaultIterations}, slot.Binding{Kind: slot.SCRAM}); err != nil {
			b.Fatal(err)
		}
	}
}
