package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A value is set from text, and shown as TOML. It is a pflag.Value.
type value interface {
	Set(string) error
	String() string
	Type() string
	toml() string
}

func (v *text) Set(s string) error { *v = text(s); return nil }
func (v *text) String() string     { return string(*v) }
func (v *text) Type() string       { return "text" }
func (v *text) toml() string       { return quote(string(*v)) }

func (v *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is not a number", s)
	}
	*v = count(n)
	return nil
}
func (v *count) String() string { return strconv.Itoa(int(*v)) }
func (v *count) Type() string   { return "number" }
func (v *count) toml() string   { return v.String() }

func (v *flag) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*v = flag(b)
	return nil
}
func (v *flag) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *flag) Type() string     { return "bool" }
func (v *flag) toml() string     { return v.String() }
func (v *flag) IsBoolFlag() bool { return true }

func (v *duration) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time such as 30s or 10m", s)
	}
	*v = duration(d)
	return nil
}
func (v *duration) String() string { return time.Duration(*v).String() }
func (v *duration) Type() string   { return "time" }
func (v *duration) toml() string   { return quote(v.String()) }

// Set takes addresses separated by commas; the empty text is the empty list.
func (v *list) Set(s string) error {
	*v = nil
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*v = append(*v, part)
		}
	}
	return nil
}
func (v *list) String() string { return strings.Join(*v, ",") }
func (v *list) Type() string   { return "list" }
func (v *list) toml() string {
	quoted := make([]string, len(*v))
	for i, s := range *v {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote is a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Size is a number of bytes, written as a number with an optional K, M, G or T (of 1024).
type Size uint64

const units = "KMGT"

// ParseSize reads what Size.String gives.
func ParseSize(s string) (Size, error) {
	var v Size
	err := v.Set(s)
	return v, err
}

// Set reads a size.
func (v *Size) Set(s string) error {
	bad := fmt.Errorf("%q is not a size such as 500M or 1G", s)
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), "I")
	shift := 0
	if n := len(digits); n > 0 {
		if i := strings.IndexByte(units, digits[n-1]); i >= 0 {
			digits, shift = digits[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return bad
	}
	*v = Size(n << shift)
	return nil
}

// String shows the size in the largest unit that divides it.
func (v *Size) String() string {
	n, unit := uint64(*v), ""
	for i := range units {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, units[i:i+1]
	}
	return strconv.FormatUint(n, 10) + unit
}

// Type is for the help.
func (v *Size) Type() string { return "size" }
func (v *Size) toml() string { return quote(v.String()) }
