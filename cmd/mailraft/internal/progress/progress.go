// Package progress tells the person who waits for a long command how far it is: messages, octets, rate and the time that is left. It
// must never be where a program reads what was done.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// How often a line is written: over the one before on a terminal, below it elsewhere.
const (
	onTerminal = 200 * time.Millisecond
	elsewhere  = 10 * time.Second
)

// Meter counts what is done. Its methods may be called by many goroutines; of a nil Meter they do nothing.
type Meter struct {
	w        io.Writer
	what     string // "exporting alice@example.org"
	unit     string // "messages"
	terminal bool
	began    time.Time

	items, octets           atomic.Uint64
	totalItems, totalOctets atomic.Uint64 // 0: not known
	skipped                 atomic.Uint64 // octets of Add that cost no time

	mu   sync.Mutex // the writer's
	stop chan struct{}
	done sync.WaitGroup
}

// New begins to tell on w what is going on, until Stop.
func New(w io.Writer, what, unit string) *Meter {
	m := &Meter{w: w, what: what, unit: unit, began: time.Now(), stop: make(chan struct{})}
	every := elsewhere
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.terminal, every = true, onTerminal
	}
	m.done.Add(1)
	go func() {
		defer m.done.Done()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.show()
			case <-m.stop:
				return
			}
		}
	}()
	return m
}

// Expect adds to what there is to do.
func (m *Meter) Expect(items, octets uint64) {
	if m != nil {
		m.totalItems.Add(items)
		m.totalOctets.Add(octets)
	}
}

// Add counts what was done.
func (m *Meter) Add(items, octets uint64) {
	if m != nil {
		m.items.Add(items)
		m.octets.Add(octets)
	}
}

// Skip counts what had been done before: it says nothing of the rate.
func (m *Meter) Skip(items, octets uint64) {
	if m != nil {
		m.Add(items, octets)
		m.skipped.Add(octets)
	}
}

// Stop ends the telling.
func (m *Meter) Stop() {
	if m == nil {
		return
	}
	close(m.stop)
	m.done.Wait()
	if m.terminal {
		m.mu.Lock()
		defer m.mu.Unlock()
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}

// Note writes a line of its own.
func (m *Meter) Note(format string, args ...any) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.terminal {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
	fmt.Fprintf(m.w, format+"\n", args...)
}

func (m *Meter) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.terminal {
		fmt.Fprintf(m.w, "\r%s\x1b[K", m.line(time.Since(m.began)))
		return
	}
	fmt.Fprintln(m.w, m.line(time.Since(m.began)))
}

// line is how things are after so much time.
func (m *Meter) line(took time.Duration) string {
	items, octets := m.items.Load(), m.octets.Load()
	totalItems, totalOctets := m.totalItems.Load(), m.totalOctets.Load()
	rate := float64(octets-min(octets, m.skipped.Load())) / max(took.Seconds(), 1e-3)
	text := fmt.Sprintf("%s: %d", m.what, items)
	if totalItems > 0 {
		text += fmt.Sprintf(" of %d", totalItems)
	}
	text += fmt.Sprintf(" %s, %s", m.unit, Octets(octets))
	if totalOctets > 0 {
		text += " of " + Octets(totalOctets)
	}
	text += fmt.Sprintf(", %s/s", Octets(uint64(rate)))
	if totalOctets > octets && rate > 0 {
		left := time.Duration(float64(totalOctets-octets) / rate * float64(time.Second))
		text += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return text
}

// Octets shows a number of octets to people.
func Octets(n uint64) string {
	f, unit := float64(n), ""
	for _, u := range "KMGTPE" {
		if f < 1024 {
			break
		}
		f, unit = f/1024, string(u)
	}
	if unit == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.1f%s", f, unit)
}
