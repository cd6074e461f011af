package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// runInitName is the argv[0] of a container's first process.
const runInitName = "vswitch-run-init"

// What runInit does to its namespace, its second argument.
const (
	setupLoopback = "loopback" // a fresh one: set lo up
	setupJoin     = "join"     // enter the one at initNetns
	setupNothing  = "nothing"  // stay
)

// Descriptors of runInit, beside the three of the command.
const (
	initReadyFD = 3 // write: initReady when the namespace stands, or an error
	initGateFD  = 4 // read: a line, own, when the daemon has attached it
	initNetns   = 5 // with setupJoin
)

const initReady = "ready"

// runInit is the container's first process: args are the path to execute, one
// of the setup constants and the command's argv. It returns only when it could
// not become the command.
//
// Namespaces belong to threads, and execve keeps that of the thread that calls
// it; hence the lock.
func runInit(args []string, stderr io.Writer) int {
	runtime.LockOSThread()
	if len(args) < 3 {
		fmt.Fprintf(stderr, "vswitch: %s is started by \"vswitch run\" only\n", runInitName)
		return exitUsage
	}
	path, setup, argv := args[0], args[1], args[2:]
	closeOnExec()
	ready, gate := os.NewFile(initReadyFD, "ready"), os.NewFile(initGateFD, "gate")
	if err := setUp(setup); err != nil {
		fmt.Fprintln(ready, err)
		return exitFailure
	}
	fmt.Fprintln(ready, initReady)
	line, err := readLine(gate)
	if err != nil {
		return exitFailure // it was decided otherwise, and said elsewhere
	}
	var o own
	if err = json.Unmarshal([]byte(line), &o); err == nil {
		err = o.put()
	}
	if err != nil {
		fmt.Fprintln(ready, err)
		return exitFailure
	}
	err = syscall.Exec(path, argv, os.Environ())
	fmt.Fprintf(ready, "%s: %v\n", path, err)
	if errors.Is(err, fs.ErrNotExist) {
		return exitNotFound // of an interpreter, as path was there before
	}
	return exitNotExecutable
}

// closeOnExec lets the command inherit the three standard descriptors and no
// other: neither ours nor what whoever called vswitch has left open (as runc did,
// CVE-2024-21626).
func closeOnExec() {
	if unix.CloseRange(initReadyFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	for fd := initReadyFD; fd <= initNetns; fd++ { // Linux 5.10
		unix.CloseOnExec(fd)
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range list {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= initReadyFD {
			unix.CloseOnExec(fd)
		}
	}
}

func setUp(setup string) error {
	switch setup {
	case setupLoopback:
		return loopbackUp()
	case setupJoin:
		if err := unix.Setns(initNetns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the other container's namespace: %w", err)
		}
	}
	return nil
}

// loopbackUp sets lo up; the kernel gives it its addresses.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
