package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"
)

// DefaultFile is read when no other is named, if it is there.
const DefaultFile = "/etc/mailraft/mailraft.toml"

// EnvFile is the variable that names the file.
const EnvFile = "MAILRAFT_CONFIG"

// ErrConfig is the kind of all errors of a configuration that cannot be used.
var ErrConfig = errors.New("configuration")

// Sources is where a configuration comes from.
type Sources struct {
	File      string                             // "": EnvFile, DefaultFile
	LookupEnv func(string) (val string, ok bool) // default: os.LookupEnv
	Flags     *pflag.FlagSet                     // those of AddFlags, parsed; may be nil
}

// AddFlags adds a flag for each option to a set. Their values are only looked at by Load.
func AddFlags(flags *pflag.FlagSet) {
	for _, o := range Default().options() {
		f := flags.VarPF(o.value, o.flag(), "", strings.ReplaceAll(o.doc, "\n", " "))
		if _, ok := o.value.(*flag); ok {
			f.NoOptDefVal = "true"
		}
	}
}

// Load reads the configuration. Each source overrides those before it: defaults, file, environment, flags.
// Errors are ErrConfig and name the option and the source.
func Load(s Sources) (*Config, error) {
	c := Default()
	if err := c.load(s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

func (c *Config) load(s Sources) error {
	lookup := s.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	file, named := s.File, s.File != ""
	if !named {
		file, named = lookup(EnvFile)
	}
	if !named {
		file = DefaultFile
	}
	if err := c.loadFile(file); err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	for _, o := range c.options() {
		if v, ok := lookup(o.env()); ok {
			if err := o.value.Set(v); err != nil {
				return fmt.Errorf("%s in the environment: %w", o.env(), err)
			}
		}
	}
	if s.Flags == nil {
		return nil
	}
	for _, o := range c.options() {
		f := s.Flags.Lookup(o.flag())
		if f == nil || !f.Changed {
			continue
		}
		if err := o.value.Set(f.Value.String()); err != nil {
			return fmt.Errorf("--%s: %w", o.flag(), err)
		}
	}
	return nil
}

func (c *Config) loadFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := c.parse(string(b)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// parse takes options from TOML. What is not an option is an error that names it.
func (c *Config) parse(document string) error {
	var tables map[string]any
	if _, err := toml.Decode(document, &tables); err != nil {
		return err
	}
	found := map[string]any{}
	flatten(found, "", tables)
	for _, o := range c.options() {
		v, ok := found[o.key]
		if !ok {
			continue
		}
		delete(found, o.key)
		if err := setTOML(o.value, v); err != nil {
			return fmt.Errorf("%s: %w", o.key, err)
		}
	}
	if len(found) == 0 {
		return nil
	}
	var unknown []string
	for key := range found {
		unknown = append(unknown, key)
	}
	sort.Strings(unknown)
	return fmt.Errorf("unknown: %s (mailraft config sample shows all options)", strings.Join(unknown, ", "))
}

func flatten(into map[string]any, prefix string, table map[string]any) {
	for key, v := range table {
		if sub, ok := v.(map[string]any); ok {
			flatten(into, prefix+key+".", sub)
			continue
		}
		into[prefix+key] = v
	}
}

// setTOML sets a value from what stands in the file.
func setTOML(v value, from any) error {
	if many, ok := v.(*list); ok {
		items, ok := from.([]any)
		if !ok {
			return fmt.Errorf(`must be a list: ["...", "..."]`)
		}
		*many = nil
		for _, item := range items {
			s, ok := item.(string)
			if !ok {
				return fmt.Errorf("%v is not a text in quotes", item)
			}
			*many = append(*many, s)
		}
		return nil
	}
	switch from := from.(type) {
	case string:
		return v.Set(from)
	case int64:
		if _, ok := v.(*text); ok {
			return fmt.Errorf("must be a text in quotes")
		}
		return v.Set(strconv.FormatInt(from, 10))
	case bool:
		return v.Set(strconv.FormatBool(from))
	}
	return fmt.Errorf("%v is not a %s", from, v.Type())
}
