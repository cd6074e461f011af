package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestDoneWhenProcessEnds(t *testing.T) {
	cmd := exec.Command("sleep", "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		t.Fatal("done while the process runs")
	case <-time.After(20 * time.Millisecond):
	}
	if p.Ended() {
		t.Error("Ended while the process runs")
	}
	cmd.Process.Kill()
	// Not reaped yet: a zombie counts as ended.
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("not done 5 s after the kill")
	}
	if !p.Ended() {
		t.Error("a zombie has not ended")
	}
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("Open of a zombie: %v, want ErrGone", err)
	}
	cmd.Wait()
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("Open of an ended process: %v, want ErrGone", err)
	}
}

func TestCloseEndsWatch(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("Done is open after Close")
	}
	if p.Ended() {
		t.Error("this process has ended")
	}
}

func TestPollStat(t *testing.T) {
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: os.Getpid(), Start: start + 1, done: make(chan struct{})}
	p.pollStat()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("a process with another start time counts as the same")
	}
}
