// Command cri asks containerd for pods as a kubelet does. It is a module of its
// own, so that gRPC is no dependency of the switch or of who imports its client.
//
//	cri SOCKET ready
//	cri SOCKET run NAME IMAGE HOSTPORT:PORT COMMAND...   # prints the pod's ID and address
//	cri SOCKET stop|remove POD
//	cri SOCKET address POD
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: cri SOCKET ready|run|stop|remove|address ...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	c := runtime.NewRuntimeServiceClient(conn)
	switch verb, args := args[1], args[2:]; {
	case verb == "ready":
		return ready(ctx, c)
	case verb == "run" && len(args) > 3:
		return runPod(ctx, c, args[0], args[1], args[2], args[3:])
	case verb == "stop" && len(args) == 1:
		_, err := c.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: args[0]})
		return err
	case verb == "remove" && len(args) == 1:
		_, err := c.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: args[0]})
		return err
	case verb == "address" && len(args) == 1:
		return address(ctx, c, args[0])
	}
	return fmt.Errorf("%q: no such request", args[1:])
}

// ready fails until the runtime's network is, which is what a CNI plugin's STATUS
// decides.
func ready(ctx context.Context, c runtime.RuntimeServiceClient) error {
	st, err := c.Status(ctx, &runtime.StatusRequest{})
	if err != nil {
		return err
	}
	for _, cond := range st.Status.Conditions {
		if !cond.Status && cond.Type != "ContainerdHasNoDeprecationWarnings" {
			return fmt.Errorf("%s: %s: %s", cond.Type, cond.Reason, cond.Message)
		}
	}
	return nil
}

func runPod(ctx context.Context, c runtime.RuntimeServiceClient, name, image, ports string, command []string) error {
	host, port, _ := strings.Cut(ports, ":")
	h, err1 := strconv.ParseInt(host, 10, 32)
	p, err2 := strconv.ParseInt(port, 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%q: want HOSTPORT:PORT", ports)
	}
	config := &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname:     name,
		LogDirectory: "/run/cri-log",
		PortMappings: []*runtime.PortMapping{{Protocol: runtime.Protocol_TCP, HostPort: int32(h), ContainerPort: int32(p)}},
		Linux:        &runtime.LinuxPodSandboxConfig{},
	}
	pod, err := c.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{Config: config})
	if err != nil {
		return err
	}
	ct, err := c.CreateContainer(ctx, &runtime.CreateContainerRequest{
		PodSandboxId: pod.PodSandboxId, SandboxConfig: config,
		Config: &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: "main"},
			Image:    &runtime.ImageSpec{Image: image},
			Command:  command,
			LogPath:  name + ".log",
			Linux:    &runtime.LinuxContainerConfig{},
		},
	})
	if err != nil {
		return err
	}
	if _, err := c.StartContainer(ctx, &runtime.StartContainerRequest{ContainerId: ct.ContainerId}); err != nil {
		return err
	}
	fmt.Print(pod.PodSandboxId, " ")
	return address(ctx, c, pod.PodSandboxId)
}

func address(ctx context.Context, c runtime.RuntimeServiceClient, pod string) error {
	st, err := c.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil {
		return err
	}
	fmt.Println(st.Status.Network.GetIp())
	return nil
}
