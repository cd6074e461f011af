package gen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Namespace is where an agent runs; *netlab.NS is one. Start starts cmd inside.
type Namespace interface {
	Start(cmd *exec.Cmd) error
}

// environ carries the Spec to the agent.
const environ = "VSWITCH_BENCH_AGENT"

// Spec is what an agent is to do.
type Spec struct {
	Role   string         `json:"role"`
	Target netip.AddrPort `json:"target,omitzero"` // of a client
	At     []netip.Addr   `json:"at,omitempty"`    // where a server listens
	Window time.Duration  `json:"window"`
	// Streams is the number of parallel connections of a bulk transfer.
	Streams int `json:"streams,omitempty"`
	// Rate is that of each stream of a bulk transfer in bits per second, or of connections a
	// second, 0 for as fast as it goes.
	Rate float64 `json:"rate,omitempty"`
	// Reverse lets the server send.
	Reverse bool `json:"reverse,omitempty"`
	// Endure lets connections fail.
	Endure bool `json:"endure,omitempty"`
	// CPU is the one the agent's conversations run on, counted from 1; 0 is any.
	CPU int `json:"cpu,omitempty"`
	// Frames is for role frames.
	Frames FrameSpec `json:"frames,omitzero"`
	// Strain is for role strain.
	Strain Strain `json:"strain,omitzero"`
}

// Roles of an agent.
const (
	roleServe   = "serve"
	roleBulk    = "bulk"
	rolePing    = "ping"
	roleConnect = "connect"
	roleUDP     = "udp"
	roleFrames  = "frames"
	roleHold    = "hold"
	roleStrain  = "strain"
	roleSink    = "sink"
	roleSpin    = "spin"
)

// answer is the one line an agent writes when it is done, or ready.
type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// RunIfAgent does not return in a process that was started as an agent.
func RunIfAgent() {
	raw, ok := os.LookupEnv(environ)
	if !ok {
		return
	}
	// Standard input is the life line: the other end closes with the benchmark,
	// however that ends.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	// Agents allocate once and then only measure.
	debug.SetGCPercent(-1)

	var spec Spec
	result, err := any(nil), json.Unmarshal([]byte(raw), &spec)
	if err == nil {
		result, err = spec.run()
	}
	var a answer
	if err != nil {
		a.Error = err.Error()
	} else if a.Result, err = json.Marshal(result); err != nil {
		a.Error = err.Error()
	}
	line, _ := json.Marshal(a)
	os.Stdout.Write(append(line, '\n'))
	if err != nil {
		os.Exit(1)
	}
	if spec.Role == roleServe || spec.Role == roleSink || spec.Role == roleSpin {
		select {} // until standard input ends
	}
	os.Exit(0)
}

// On is a namespace whose agents run on one CPU, counted from 1; 0 is any.
type On struct {
	Namespace
	CPU int
}

// cpu is Spec.CPU of this process.
var cpu int

// lockThread gives the goroutine a thread of its own, on the agent's CPU.
func lockThread() {
	runtime.LockOSThread()
	if cpu > 0 {
		var set unix.CPUSet
		set.Set(cpu - 1)
		unix.SchedSetaffinity(0, &set) // 0 is the calling thread
	}
}

func (s Spec) run() (any, error) {
	cpu = s.CPU
	switch s.Role {
	case roleServe:
		return nil, serve(s.At)
	case roleBulk:
		if s.Reverse {
			return fetch(s)
		}
		return bulk(s)
	case rolePing:
		return ping(s)
	case roleConnect:
		return connects(s)
	case roleUDP:
		return udpPing(s)
	case roleFrames:
		return frames(s)
	case roleHold:
		return nil, hold(s)
	case roleStrain:
		return nil, strain(s)
	case roleSink:
		return nil, sink(s)
	case roleSpin:
		go spin()
		return nil, nil
	}
	return nil, fmt.Errorf("agent: no role %q", s.Role)
}

// Agent is a running process of this executable.
type Agent struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
	first  chan answer // its one line; closed without one when it died
}

// start runs spec in ns.
func start(ns Namespace, spec Spec) (*Agent, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if on, ok := ns.(On); ok {
		spec.CPU = on.CPU
	}
	env, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	cmd := exec.Command(self)
	// Preemption is a signal, and a signal interrupts a system call: an agent's
	// threads are to be alone with the kernel.
	cmd.Env = append(os.Environ(), environ+"="+string(env), "GODEBUG=asyncpreemptoff=1")
	// Ctrl-C is for the benchmark, which then ends its agents in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	a := &Agent{cmd: cmd, stderr: &bytes.Buffer{}, first: make(chan answer, 1)}
	cmd.Stderr = a.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", spec.Role, err)
	}
	a.stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", spec.Role, err)
	}
	if err := ns.Start(cmd); err != nil {
		return nil, fmt.Errorf("agent %s: %w", spec.Role, err)
	}
	go func() {
		defer close(a.first)
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err != nil {
			return
		}
		var ans answer
		if err := json.Unmarshal(line, &ans); err != nil {
			ans.Error = fmt.Sprintf("agent %s: broken answer: %v", spec.Role, err)
		}
		a.first <- ans
	}()
	return a, nil
}

// Close ends the agent and waits for it.
func (a *Agent) Close() error {
	a.stdin.Close()
	timer := time.AfterFunc(2*time.Second, func() { a.cmd.Process.Kill() })
	defer timer.Stop()
	// Its exit status says nothing that its answer did not.
	var exit *exec.ExitError
	if err := a.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

// answer waits for the agent's line and decodes it into out, unless nil.
func (a *Agent) answer(ctx context.Context, limit time.Duration, out any) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case ans, ok := <-a.first:
		switch {
		case !ok:
			return fmt.Errorf("agent died: %s", strings.TrimSpace(a.stderr.String()))
		case ans.Error != "":
			return errors.New(ans.Error)
		case out == nil:
			return nil
		}
		return json.Unmarshal(ans.Result, out)
	case <-timer.C:
		return fmt.Errorf("agent: no answer within %v", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call runs an agent to its end. It may take a good deal longer than its
// window: a path that stalls is a finding, and says so itself.
func call(ctx context.Context, ns Namespace, spec Spec, out any) error {
	a, err := start(ns, spec)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.answer(ctx, spec.Window+10*time.Second, out)
}
