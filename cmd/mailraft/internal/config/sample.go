package config

import (
	"fmt"
	"strings"
)

// Sample is a configuration file with every option at its default, all of it commented out.
func Sample() string { return Default().Document(nil) }

// Document is a configuration file with every option described. Those that set names have their value from c, the others
// are commented out.
func (c *Config) Document(set func(key string) bool) string {
	var b strings.Builder
	b.WriteString("# Configuration of mailraft. What is commented out has the value shown.\n")
	b.WriteString("# Each option can also be given in the environment (MAILRAFT_SMTP_LISTEN=..., lists with commas) and as a flag\n")
	b.WriteString("# (mailraft serve --smtp-listen ...); flags win over the environment, which wins over this file.\n")
	table := ""
	for _, o := range c.options() {
		name := o.key
		if t, rest, ok := strings.Cut(o.key, "."); ok {
			name = rest
			if t != table {
				fmt.Fprintf(&b, "\n[%s]\n", t)
				table = t
			}
		}
		b.WriteByte('\n')
		for line := range strings.SplitSeq(o.doc, "\n") {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		if set == nil || !set(o.key) {
			b.WriteString("# ")
		}
		fmt.Fprintf(&b, "%s = %s\n", name, o.value.toml())
	}
	return b.String()
}
