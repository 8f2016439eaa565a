// Package logging makes the loggers of the daemon and its children.
package logging
