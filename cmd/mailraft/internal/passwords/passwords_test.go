package passwords

import (
	"regexp"
	"strings"
	"testing"
)

func TestNormal(t *testing.T) {
	for in, want := range map[string]string{
		"plain":    "plain",
		"e\u0301":  "\u00e9",
		"\xff\xfe": "\xff\xfe",
		"":         "",
	} {
		if got := string(Normal([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"a", "e\u0301\u0301", "\U0001d160", strings.Repeat("\u0390\U0001d160\u0344", 50), strings.Repeat("\u0344", 100)} {
		if out := Normal([]byte(in)); cap(out) != maxGrowth*len(in) {
			t.Errorf("%q: the buffer has grown from %d to %d octets", in, maxGrowth*len(in), cap(out))
		}
	}
	in := []byte("secret")
	if out := Normal(in); &out[0] == &in[0] {
		t.Error("the result shares its memory with the argument")
	}
}

func TestRandom(t *testing.T) {
	form := regexp.MustCompile(`^[a-z2-9]{5}(-[a-z2-9]{5}){3}$`)
	seen := map[string]bool{}
	for range 100 {
		p := Random()
		if !form.Match(p) || seen[string(p)] {
			t.Fatalf("%q", p)
		}
		seen[string(p)] = true
		if want := strings.ReplaceAll(string(p), "-", ""); string(Secret(p)) != want {
			t.Errorf("%q becomes %q", p, Secret(p))
		}
	}
	if 256%len(alphabet) != 0 {
		t.Error("some characters come more often than others")
	}
}

func TestSecret(t *testing.T) {
	const whole = "abcdefghijkmnpqrstuv"
	for in, want := range map[string]string{
		whole: whole, "ABCDE FGHIJ kmnpq rstuv": whole, "-abcde--fghijkmnpqrstuv-": whole,
		"": "", whole[1:]: "", whole + "a": "", "abcdefghijkmnpqrstu1": "", "abcdefghijkmnpqrstu\xff": "", "abcdefghijkmnpqrstuo": "",
	} {
		if got := Secret([]byte(in)); string(got) != want || (got == nil) != (want == "") {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}
