package group

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/hashicorp/go-hclog"
)

// hclogAdapter has the Raft libraries log to slog. What they call info is their daily life: debug here.
type hclogAdapter struct {
	log  *slog.Logger
	name string
}

// Logger has what Raft, or its transport, logs go to l.
func Logger(l *slog.Logger) hclog.Logger { return raftLogger(l) }

func raftLogger(l *slog.Logger) *hclogAdapter { return &hclogAdapter{log: l} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (a *hclogAdapter) Log(l hclog.Level, msg string, args ...any) {
	level := slogLevel(l)
	switch msg {
	case "failed to appendEntries to", "failed to heartbeat to", "failed to pipeline appendEntries", "failed to pipeline appendEntries to",
		"failed to start pipeline replication to", "failed to send snapshot to", "failed to make requestVote RPC", "failed to contact",
		"failed to decode incoming command", "failed to accept connection", "failed to flush response",
		"target does not support pre-vote RPC, treating as granted", "peer has newer term, stopping replication":
		level = slog.LevelDebug // for every group, and often: that a node does not answer is said once, by who pings it
	}
	a.log.Log(context.Background(), level, msg, args...)
}
func (a *hclogAdapter) Trace(msg string, args ...any) { a.Log(hclog.Trace, msg, args...) }
func (a *hclogAdapter) Debug(msg string, args ...any) { a.Log(hclog.Debug, msg, args...) }
func (a *hclogAdapter) Info(msg string, args ...any)  { a.Log(hclog.Info, msg, args...) }
func (a *hclogAdapter) Warn(msg string, args ...any)  { a.Log(hclog.Warn, msg, args...) }
func (a *hclogAdapter) Error(msg string, args ...any) { a.Log(hclog.Error, msg, args...) }

func (a *hclogAdapter) enabled(l slog.Level) bool { return a.log.Enabled(context.Background(), l) }
func (a *hclogAdapter) IsTrace() bool             { return false }
func (a *hclogAdapter) IsDebug() bool             { return a.enabled(slog.LevelDebug) }
func (a *hclogAdapter) IsInfo() bool              { return a.enabled(slog.LevelDebug) }
func (a *hclogAdapter) IsWarn() bool              { return a.enabled(slog.LevelWarn) }
func (a *hclogAdapter) IsError() bool             { return a.enabled(slog.LevelError) }
func (a *hclogAdapter) ImpliedArgs() []any        { return nil }
func (a *hclogAdapter) Name() string              { return a.name }
func (a *hclogAdapter) SetLevel(hclog.Level)      {}
func (a *hclogAdapter) GetLevel() hclog.Level     { return hclog.Debug }

func (a *hclogAdapter) With(args ...any) hclog.Logger {
	return &hclogAdapter{a.log.With(args...), a.name}
}
func (a *hclogAdapter) Named(name string) hclog.Logger {
	return &hclogAdapter{a.log.With("part", name), name}
}
func (a *hclogAdapter) ResetNamed(name string) hclog.Logger { return &hclogAdapter{a.log, name} }

func (a *hclogAdapter) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)
}
func (a *hclogAdapter) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return a.StandardLogger(nil).Writer()
}

// pebbleLogger has Pebble log to slog.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("state store: " + fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("state store: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble can't note which files make up the state: going on would lose data, and it does not return. The
// program ends, and its next start goes on from the log.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.log.Error("state store can't go on: " + fmt.Sprintf(format, args...))
	os.Exit(1)
}
