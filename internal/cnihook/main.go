// Command cnihook is a hook of runc that joins a container to networks of CNI by go-cni, as
// nerdctl does since its version 2.1.6: it listens on every published port, runs ADD, and
// leaves the sockets to a process that outlives it. It is a module of its own, so that go-cni
// is no dependency of the switch.
//
// What it reads of the container's annotations:
//
//	networks  names of configurations, by commas
//	ports     the ports to publish, as go-cni has them in JSON
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	gocni "github.com/containerd/go-cni"
)

const (
	pluginDir = "/opt/cni/bin"
	confDir   = "/etc/cni/net.d"
	runDir    = "/run/cnihook"
)

// container is what the runtime says on standard input.
type container struct {
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Annotations map[string]string `json:"annotations"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cnihook:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: cnihook createRuntime|poststop, and the container's state on standard input")
	}
	var ct container
	if err := json.NewDecoder(os.Stdin).Decode(&ct); err != nil {
		return err
	}
	opts := []gocni.Opt{gocni.WithPluginDir([]string{pluginDir})}
	for name := range strings.SplitSeq(ct.Annotations["networks"], ",") {
		opts = append(opts, gocni.WithConfListFile(filepath.Join(confDir, name+".conflist")))
	}
	network, err := gocni.New(opts...)
	if err != nil {
		return err
	}
	var ports []gocni.PortMapping
	if text := ct.Annotations["ports"]; text != "" {
		if err := json.Unmarshal([]byte(text), &ports); err != nil {
			return fmt.Errorf("ports: %w", err)
		}
	}
	words := []gocni.NamespaceOpts{gocni.WithLabels(map[string]string{"IgnoreUnknown": "1"})}
	if len(ports) > 0 {
		words = append(words, gocni.WithCapabilityPortMap(ports))
	}
	ctx, id := context.Background(), "default-"+ct.ID
	switch args[0] {
	case "createRuntime":
		if err := reserve(ct.ID, ports); err != nil {
			return err
		}
		_ = network.Remove(ctx, id, "", words...) // what a crash has left
		if _, err := network.Setup(ctx, id, fmt.Sprintf("/proc/%d/ns/net", ct.Pid), words...); err != nil {
			return errors.Join(err, giveBack(ct.ID))
		}
		return nil
	case "poststop":
		return errors.Join(network.Remove(ctx, id, "", words...), giveBack(ct.ID))
	}
	return fmt.Errorf("%q: no such event", args[0])
}

// reserve listens on the ports and leaves the sockets to a process that sleeps. A port that
// somebody has is left out, with a word.
func reserve(id string, ports []gocni.PortMapping) error {
	if len(ports) == 0 {
		return nil
	}
	sleep := exec.Command("sleep", "infinity")
	for _, p := range ports {
		f, err := listen(p)
		if err != nil {
			fmt.Fprintln(os.Stderr, "cnihook: cannot reserve a port:", err)
			continue
		}
		sleep.ExtraFiles = append(sleep.ExtraFiles, f)
	}
	if err := sleep.Start(); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(runDir, 0o700), os.WriteFile(filepath.Join(runDir, id), []byte(strconv.Itoa(sleep.Process.Pid)), 0o600))
}

func listen(p gocni.PortMapping) (*os.File, error) {
	at := net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort)))
	if p.Protocol == "udp" {
		l, err := net.ListenPacket("udp4", at)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		return l.(*net.UDPConn).File()
	}
	l, err := net.Listen("tcp4", at)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

// giveBack ends the process that has the sockets.
func giveBack(id string) error {
	path := filepath.Join(runDir, id)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		return err
	}
	return errors.Join(syscall.Kill(pid, syscall.SIGKILL), os.Remove(path))
}
