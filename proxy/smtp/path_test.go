package smtp

import "testing"

func TestParsePath(t *testing.T) {
	for in, want := range map[string]path{
		"<>":                             {},
		"<a@b>":                          {"a", "b"},
		"<a+b=c!#$%&'*/?^_`{|}~-@b.c-d>": {"a+b=c!#$%&'*/?^_`{|}~-", "b.c-d"},
		"<.a..b.@c>":                     {".a..b.", "c"},
		`<"a\"b\\ @"@c>`:                 {`a"b\ @`, "c"},
		"<@x,@y:a@b>":                    {"a", "b"},
		"<a@[127.0.0.1]>":                {"a", "[127.0.0.1]"},
		"<a@[IPv6:2001:db8::1]>":         {"a", "[IPv6:2001:db8::1]"},
		"<ä@ö.example>":                  {"ä", "ö.example"},
		"<postMaster>":                   {"postMaster", ""},
	} {
		got, rest, err := parsePath(in + " X=Y")
		if got != want || rest != " X=Y" || err != nil {
			t.Errorf("%s: %+v, %q, %v", in, got, rest, err)
		}
		again, _, err := parsePath("<" + got.String() + ">")
		if again != got || err != nil {
			t.Errorf("%s: written %s, read %+v, %v", in, got, again, err)
		}
	}
	for _, in := range []string{"", "a@b", "<", "<a", "<a@", "<a@>", "<@b>", "<a@b", "<a@b c>", "<a b@c>", "<a@b@c>",
		"<a@(b)>", "<a\x00@b>", "<a@b\x7f>", "<\xff@b>", "<a@\xff>", `<"">`, `<""@b>`, `<"a@b>`, `<"a\`, "<a@b", "<\"a\x01\"@b>", "<@x a@b>",
		"<a@[]>", "<a@[x>", "<a,b@c>", "<a:b@c>", "<alice>", "<a@b\u0085>"} {
		if p, rest, err := parsePath(in); err == nil {
			t.Errorf("%q: %+v, rest %q", in, p, rest)
		}
	}
}

// FuzzPath: a path that was read is read again as itself, and cannot break a header line.
func FuzzPath(f *testing.F) {
	f.Add(`<"a\"b"@c> SIZE=1`)
	f.Add("<@x:ä@[::1]>")
	f.Fuzz(func(t *testing.T, in string) {
		p, rest, err := parsePath(in)
		if err != nil {
			return
		}
		if len(p.String()) > 3*maxPath || validText(p.String()) != nil {
			t.Errorf("%q", p)
		}
		again, _, err := parsePath("<" + p.String() + ">" + rest)
		if err != nil && len(p.String()) < maxPath || err == nil && again != p {
			t.Errorf("%+v, written %q, read %+v, %v", p, p, again, err)
		}
	})
}
