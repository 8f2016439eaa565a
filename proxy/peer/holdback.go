package peer

import "time"

// HoldBack waits before the answer to a connection's n-th failed login: n times step, so that guessing gets slower. It returns false
// at once when done is closed.
func HoldBack(done <-chan struct{}, n int, step time.Duration) bool {
	timer := time.NewTimer(time.Duration(n) * step)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}
