package labtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// Drained waits until a program has read all that has come to its UDP socket of IPv4, and the
// kernel has dropped none of it. Without a namespace it is that of the test.
func Drained(t testing.TB, ns *netlab.NS, port uint16) {
	t.Helper()
	var line string
	read := func() (err error) {
		line = ""
		b, err := os.ReadFile("/proc/thread-self/net/udp")
		for l := range strings.Lines(string(b)) {
			if f := strings.Fields(l); len(f) > 12 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				line = l
			}
		}
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := error(nil)
		if ns == nil {
			err = read()
		} else {
			err = ns.Do(read)
		}
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(line) // 4 is tx_queue:rx_queue, the last the number of drops
		if f != nil && f[len(f)-1] != "0" {
			t.Fatalf("port %d has lost datagrams: %s", port, line)
		}
		if f != nil && strings.HasSuffix(f[4], ":00000000") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("what came to port %d is not read: %q", port, line)
		}
	}
}
