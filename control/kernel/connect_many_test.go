package kernel

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestManyEndsAreRelayed: a user who begins to send by one socket after the other is left to the relay, where
// users take turns. A socket that was led before is led on.
func TestManyEndsAreRelayed(t *testing.T) {
	const at = "127.0.0.1:8080"
	l := newLedLab(t, nil)
	relay, err := l.Host.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	var relayed atomic.Int64
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := relay.ReadFrom(b)
			if err != nil {
				return
			}
			relayed.Add(1)
			relay.WriteTo([]byte("relay"), from)
		}
	}()
	first := l.socket(unix.AF_INET, unix.SOCK_DGRAM)
	if from, answer := l.asks(first, at); from != at || answer == "relay" {
		t.Fatalf("one socket: %s says %q", from, answer)
	}
	const sockets = 3000 // more than are led in three seconds
	sa := &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}
	err = l.Host.Do(func() error {
		for range sockets {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err = unix.Sendto(fd, []byte("?"), 0, sa); err == unix.ECONNREFUSED {
				err = nil
			}
			unix.Close(fd)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if from, answer := l.asks(first, at); from != at || answer == "relay" {
		t.Errorf("the socket that was led before: %s says %q", from, answer)
	}
	for deadline := time.Now().Add(5 * time.Second); relayed.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("all are led")
		}
	}
	time.Sleep(100 * time.Millisecond)
	if from, answer := l.asks(l.socket(unix.AF_INET, unix.SOCK_DGRAM), at); from != at || answer == "relay" {
		t.Errorf("one socket afterwards: %s says %q", from, answer)
	}
}
