package mimetree

import (
	"bytes"
	"iter"
	"strings"
)

// Field is one header field with its continuation lines, as it stands in the header.
type Field []byte

// Fields yields a header's fields. A line without a colon is taken for a field without a name.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(header) > 0 {
			n := lineEnd(header)
			if len(bytes.TrimRight(header[:n], "\r\n")) == 0 {
				return // the empty line
			}
			for n < len(header) && (header[n] == ' ' || header[n] == '\t') {
				n += lineEnd(header[n:])
			}
			if !yield(Field(header[:n])) {
				return
			}
			header = header[n:]
		}
	}
}

func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// Name returns the field's name as it is written, "" when it has none.
func (f Field) Name() string {
	i := bytes.IndexByte(f, ':')
	if i < 0 {
		return ""
	}
	return string(bytes.TrimRight(f[:i], " \t"))
}

// Is says whether the field has that name; case does not count.
func (f Field) Is(name string) bool {
	i := bytes.IndexByte(f, ':')
	return i >= 0 && len(name) > 0 && strings.EqualFold(string(bytes.TrimRight(f[:i], " \t")), name)
}

// Value returns what stands behind the colon, unfolded (RFC 5322, 2.2.3) and trimmed.
func (f Field) Value() string {
	_, value, _ := bytes.Cut(f, []byte(":"))
	return strings.TrimSpace(strings.NewReplacer("\r\n", "", "\n", "").Replace(string(value)))
}

// ParseValue reads a value with parameters, as Content-Type and Content-Disposition have them (RFC 2045, 5.1; RFC 2231), and
// makes the best of malformed ones. Value and names of parameters are in lower case.
func ParseValue(s string) (value string, params map[string]string) {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	value, params = parseStrictly(s)
	if value != "" {
		return value, params
	}
	value, rest, _ := strings.Cut(s, ";")
	value = strings.ToLower(strings.TrimSpace(value))
	if i := strings.IndexAny(value, " \t("); i >= 0 {
		value = value[:i]
	}
	params = make(map[string]string)
	for len(params) < maxParams {
		var name string
		var ok bool
		name, rest, ok = strings.Cut(rest, "=")
		if !ok {
			break
		}
		name = strings.ToLower(strings.Trim(name, " \t;"))
		rest = strings.TrimLeft(rest, " \t")
		var v string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			v, rest, _ = strings.Cut(quoted, `"`)
			_, rest, _ = strings.Cut(rest, ";")
		} else {
			v, rest, _ = strings.Cut(rest, ";")
			v = strings.TrimSpace(v)
		}
		if _, double := params[name]; !double && name != "" && !strings.ContainsAny(name, " \t\"") {
			params[name] = v
		}
	}
	return value, params
}
