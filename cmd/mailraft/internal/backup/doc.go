// Package backup keeps copies of accounts in a folder: what is sealed as it is stored, each content once, in pack files; all else, names
// and flags and key slots, encrypted to the operator's age recipient. docs/backup.md says how it is used, docs/format.md what is in the
// folder. It never opens a message, and must never overwrite what an earlier manifest refers to.
package backup
