package logging

import (
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// Format resolves "auto" for f: text on a terminal, else json. Errors for what is none of the three.
func Format(format string, f *os.File) (string, error) {
	switch format {
	case "text", "json":
		return format, nil
	case "auto":
		if term.IsTerminal(int(f.Fd())) {
			return "text", nil
		}
		return "json", nil
	}
	return "", fmt.Errorf("log.format: %q is none of text, json, auto", format)
}

// New makes a logger that writes to f.
func New(f *os.File, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", level)
	}
	format, err := Format(format, f)
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: l}
	if format == "text" {
		return slog.New(slog.NewTextHandler(f, options)), nil
	}
	return slog.New(slog.NewJSONHandler(f, options)), nil
}
