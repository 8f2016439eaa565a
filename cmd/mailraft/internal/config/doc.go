// Package config reads what an operator decides: from a TOML file, from MAILRAFT_... variables of the environment and from
// flags, where a later one wins. One table of options (options.go) makes all three, the help texts and the commented sample.
package config
