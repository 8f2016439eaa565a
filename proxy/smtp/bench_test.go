package smtp

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkDelivery takes 20 KiB messages over 16 loopback connections into 16 mailboxes on a plain directory. The CPU time that
// it prints is that of the server and of the clients together.
func BenchmarkDelivery(b *testing.B) {
	const connections = 16
	message := strings.Repeat(strings.Repeat("x", 78)+"\r\n", 256)
	for _, lmtp := range []bool{true, false} {
		name, hello := "SMTP", "EHLO"
		if lmtp {
			name, hello = "LMTP", "LHLO"
		}
		b.Run(name, func(b *testing.B) {
			var accounts []string
			for i := range connections {
				accounts = append(accounts, fmt.Sprintf("user%d@example.org", i))
			}
			h := newHouse(b, accounts...)
			_, address := run(b, Config{LMTP: lmtp}, h)
			work := make(chan int)
			var clients sync.WaitGroup
			for _, a := range accounts {
				c := dial(b, address)
				c.SetDeadline(time.Time{})
				c.expect("220 ")
				c.dialogue("C: " + hello + " client.example\nS: 250-")
				clients.Go(func() {
					for range work {
						c.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<" + a + ">\r\nDATA\r\n")
						c.expect("250 ", "250 ", "354 ")
						c.send(message + ".\r\n")
						c.expect("250 ")
					}
				})
			}
			b.SetBytes(int64(len(message)))
			before := cpuTime(b)
			b.ResetTimer()
			for i := range b.N {
				work <- i
			}
			close(work)
			clients.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/message")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkReceive is the way of a message's bytes from the connection's buffer to the chunk: dots, line ends, hops.
func BenchmarkReceive(b *testing.B) {
	message := []byte("Received: a\r\nSubject: b\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 256) + ".\r\n")
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		t := newTransfer(nil, true, 1<<20)
		var d dotDecoder
		if _, done := d.decode(message, t.write); !done {
			b.Fatal(io.ErrUnexpectedEOF)
		}
		t.abort()
	}
}
