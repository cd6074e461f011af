package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

// demoContainerName is the argv[0] of the program in the demo's containers.
const demoContainerName = "vswitch-demo-container"

// demoContainer is a program as a container would run it: it serves its page,
// and does what each line of its input asks for ("get ADDR", "udp ADDR",
// "ping ADDR") by sockets of its own kernel, with one line in answer: "ok TEXT"
// or "error TEXT". It ends with its input.
func demoContainer(_ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	l, err := net.Listen("tcp", ":"+sitePage)
	if err != nil {
		sayf(stderr, "vswitch: %v\n", err)
		return exitFailure
	}
	c, err := net.ListenPacket("udp", ":"+siteEcho)
	if err != nil {
		sayf(stderr, "vswitch: %v\n", err)
		return exitFailure
	}
	go servePage(l)
	go serveEcho(c)

	fmt.Fprintln(stdout, "ok serving")
	for in := bufio.NewScanner(stdin); in.Scan(); {
		verb, addr, _ := strings.Cut(in.Text(), " ")
		var text string
		switch verb {
		case "get":
			text, err = get(context.Background(), addr, (&net.Dialer{}).DialContext)
		case "udp":
			text, err = echo(addr)
		case "ping":
			text, err = ping(addr)
		default:
			err = fmt.Errorf("unknown verb %q", verb)
		}
		if err != nil {
			fmt.Fprintln(stdout, "error", err)
			continue
		}
		fmt.Fprintln(stdout, "ok", text)
	}
	return exitOK
}

// ping sends an ICMP echo request (RFC 792) and returns who answered it.
func ping(addr string) (string, error) {
	c, err := net.Dial("ip4:icmp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	id := uint16(os.Getpid())
	for seq := range uint16(3) {
		req := []byte{8, 0, 0, 0, 0, 0, 0, 0, 'v', 's', 'w', 'i', 't', 'c', 'h', '!'}
		binary.BigEndian.PutUint16(req[4:], id)
		binary.BigEndian.PutUint16(req[6:], seq)
		binary.BigEndian.PutUint16(req[2:], internetChecksum(req))
		if _, err = c.Write(req); err != nil {
			return "", err
		}
		c.SetReadDeadline(time.Now().Add(demoTimeout / 3))
		b := make([]byte, 2048)
		for {
			n, from, rerr := c.(*net.IPConn).ReadFromIP(b)
			if err = rerr; err != nil {
				break
			}
			if want := append([]byte{0, 0}, req[4:]...); n >= len(req) && b[0] == 0 && bytes.Equal(b[4:n], want[2:]) {
				return from.String(), nil
			}
		}
	}
	return "", err
}

// internetChecksum is that of RFC 1071, over an even number of bytes.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// demoBox is a container of the demo, seen from outside it.
type demoBox struct {
	name string
	at   api.Container
	p    *process
	in   *os.File // its input
	out  *bufio.Reader
	outF *os.File
	done chan error // what runContainer returned
}

// startDemoBox starts a container just as `vswitch run` does.
func startDemoBox(ctx context.Context, cl *client.Client, name string) (*demoBox, error) {
	inR, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	out, outW, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer outW.Close()

	b := &demoBox{name: name, in: in, out: bufio.NewReader(out), outF: out, done: make(chan error, 1)}
	attached := make(chan api.Container, 1)
	var stderr bytes.Buffer
	b.p = &process{
		path: "/proc/self/exe", argv: []string{demoContainerName, name},
		stdin: inR, stdout: outW, stderr: &stderr,
		attached: func(at api.Container) { attached <- at },
	}
	go func() {
		b.done <- runContainer(ctx, cl, mode{kind: api.ModeBridge}, api.Attach{Name: name}, b.p)
		close(b.done)
	}()
	select {
	case b.at = <-attached:
	case err = <-b.done:
		in.Close()
		out.Close()
		return nil, err
	}
	outW.Close() // so that its end is the end of what we read
	if len(b.at.Endpoints) == 0 {
		return b, fmt.Errorf("container %s has no interface", name)
	}
	if _, err := b.answer(ctx); err != nil {
		return b, errors.Join(err, errorText(stderr.String()))
	}
	return b, nil
}

func errorText(s string) error {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return errors.New(s)
}

func (b *demoBox) addr() string {
	p, err := netip.ParsePrefix(b.at.Endpoints[0].Address)
	if err != nil {
		return b.at.Endpoints[0].Address
	}
	return p.Addr().String()
}

func (b *demoBox) describe() string {
	if b == nil || len(b.at.Endpoints) == 0 {
		return ""
	}
	e := b.at.Endpoints[0]
	return fmt.Sprintf("pid %d, %s %s, MAC %s, via %s", b.at.PID, e.Interface, e.Address, e.MAC, e.HostInterface)
}

func (b *demoBox) get(ctx context.Context, addr string) (string, error) {
	return b.ask(ctx, "get "+addr)
}
func (b *demoBox) udp(ctx context.Context, addr string) (string, error) {
	return b.ask(ctx, "udp "+addr)
}
func (b *demoBox) ping(ctx context.Context, addr string) (string, error) {
	return b.ask(ctx, "ping "+addr)
}

func (b *demoBox) ask(ctx context.Context, line string) (string, error) {
	if _, err := fmt.Fprintln(b.in, line); err != nil {
		return "", err
	}
	return b.answer(ctx)
}

func (b *demoBox) answer(ctx context.Context) (string, error) {
	// The other side gives up by itself within demoTimeout.
	b.outF.SetReadDeadline(time.Now().Add(2 * demoTimeout))
	stop := context.AfterFunc(ctx, func() { b.outF.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := b.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("container %s says nothing: %w", b.name, err)
	}
	verdict, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verdict != "ok" {
		return "", errors.New(text)
	}
	return text, nil
}

// end lets the container end by itself and returns when it is released.
func (b *demoBox) end() error {
	b.in.Close()
	select {
	case err := <-b.done:
		return err
	case <-time.After(demoTimeout):
		return fmt.Errorf("container %s does not end", b.name)
	}
}

// kill ends it in any state; after end it does nothing.
func (b *demoBox) kill() {
	b.in.Close()
	b.p.cmd.Process.Kill()
	<-b.done
	b.outF.Close()
}
