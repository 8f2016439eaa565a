package transport

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeepValid over a year of a clock that is made for it: renewed each time a third of the life is left, and while the directory has no
// quorum asked for again each minute, until it has.
func TestKeepValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		id := c.identity("a", time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		var mu sync.Mutex // of the following: that the goroutine sleeps is nothing to the race detector
		noQuorum, asked := false, 0
		var at []time.Time
		go func() {
			defer close(done)
			id.KeepValid(ctx, func(_ context.Context, key cryptoPublicKey) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				asked++
				if noQuorum {
					return nil, errors.New("no quorum")
				}
				at = append(at, time.Now())
				return c.ca.Issue(key, "a", time.Now())
			}, slog.New(slog.DiscardHandler))
		}()
		began := time.Now()
		for range 365 {
			time.Sleep(24 * time.Hour)
			if !time.Now().Before(id.NotAfter()) {
				t.Fatal("it has run out")
			}
		}
		mu.Lock()
		if len(at) != asked || len(at) != 6 || at[0].Sub(began) < 59*24*time.Hour || at[0].Sub(began) > 61*24*time.Hour {
			t.Errorf("renewed at %v, asked %d times", at, asked)
		}
		noQuorum, asked = true, 0
		mu.Unlock()
		time.Sleep(time.Until(id.RenewAt()) + 10*time.Minute + time.Second)
		mu.Lock()
		if asked != 11 {
			t.Errorf("asked %d times in ten minutes", asked)
		}
		noQuorum = false
		mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if time.Until(id.RenewAt()) <= 0 {
			t.Error("not renewed when there was a quorum again")
		}
		cancel()
		<-done
	})
}
