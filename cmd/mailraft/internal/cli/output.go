package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailraft/cmd/mailraft/internal/progress"
)

// jsonFlag adds --json to a command whose answer scripts want.
func jsonFlag(cmd *cobra.Command, on *bool, what string) {
	cmd.Flags().BoolVar(on, "json", false, "answer in JSON: "+what)
}

// jsonLine writes a value as one line.
func (p *program) jsonLine(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// tell tells what was done: an object to scripts, a line to people.
func (p *program) tell(asJSON bool, object any, format string, args ...any) error {
	if asJSON {
		return p.jsonLine(object)
	}
	_, err := fmt.Fprintf(p.stdout, format, args...)
	return err
}

// each calls fn with what a stream brings, to its end.
func each[T any](stream interface{ Recv() (T, error) }, fn func(T) error) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fn(m)
		}
		if err != nil {
			return err
		}
	}
}

// table is text in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }
func (t *table) end() error          { return t.w.Flush() }

// limit shows a limit of bytes, where 0 is none.
func limit(n uint64) string {
	if n == 0 {
		return "none"
	}
	return progress.Octets(n)
}

func day(seconds int64) string { return time.Unix(seconds, 0).Format("2006-01-02") }
