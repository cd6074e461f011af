package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

// A container is a network namespace: it gets an interface, and its port 80 can
// be reached by the host's port 8080.
func Example() {
	socket, stop := serve()
	defer stop()
	ctx := context.Background()

	c := client.New(socket) // client.Socket("/run/vswitch") for the system's daemon
	defer c.Close()
	web, err := c.Attach(ctx, api.Attach{Name: "web", Netns: "/run/netns/web", Publish: []string{"8080:80"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(web.Name, web.Endpoints[0].Interface, web.Endpoints[0].Address)

	if _, err := c.Publish(ctx, "web", []string{"8443:443"}); err != nil { // while it runs
		log.Fatal(err)
	}
	ports, err := c.Ports(ctx, "web")
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range ports {
		fmt.Printf("%d -> %d/%s\n", p.HostPort, p.Port, p.Proto)
	}
	if err := c.Detach(ctx, "web"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// web eth0 10.88.0.2/24
	// 8080 -> 80/tcp
	// 8443 -> 443/tcp
}

// Errors are for people; the two kinds that a program acts upon can be told.
func ExampleIsNotFound() {
	socket, stop := serve()
	defer stop()
	c := client.New(socket)
	defer c.Close()

	_, err := c.Container(context.Background(), "web")
	fmt.Println(err)
	fmt.Println(client.IsNotFound(err))
	// Output:
	// container web: not found: see vswitch ps
	// true
}

// The front end of a runtime names a container by the runtime's own words, with
// which it also takes it away. What is gone is no error, as runtimes ask twice.
func ExampleClient_AttachIn() {
	socket, stop := serve()
	defer stop()
	ctx := context.Background()
	c := client.New(socket)
	defer c.Close()

	_, err := c.AttachIn(ctx, api.Attach{
		Name: "db", Netns: "/run/netns/db", Runtime: "myruntime", RuntimeID: "4f0c2a",
		Networks: []api.Connect{{Network: "backend"}},
	}, api.NetworkCreate{Name: "backend", Subnet: "10.7.0.0/24"}) // made when it is missing
	if err != nil {
		log.Fatal(err)
	}
	mine, err := c.ContainersOf(ctx, api.ContainerFilter{Runtime: "myruntime"})
	if err != nil {
		log.Fatal(err)
	}
	for _, ct := range mine {
		fmt.Println(ct.Name, ct.RuntimeID, ct.Endpoints[0].Network)
	}
	for range 2 {
		if err := c.Release(ctx, api.Release{Runtime: "myruntime", RuntimeID: "4f0c2a"}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// db 4f0c2a backend
}

// Events come as they happen, until the context ends or the function says no.
func ExampleClient_Events() {
	socket, stop := serve()
	defer stop()
	c := client.New(socket)
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Attach(ctx, api.Attach{Name: "web", Netns: "/run/netns/web"}); err != nil {
		log.Fatal(err)
	}

	var all uint64 // since the first
	err := c.Events(ctx, api.EventQuery{Since: &all, Once: true}, func(e api.Event) error {
		fmt.Println(e.Seq, e.Type, e.Message)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 attach container web attached
}

// A capture is a stream of pcapng, for a file or for Wireshark.
func ExampleClient_Capture() {
	socket, stop := serve()
	defer stop()
	c := client.New(socket)
	defer c.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var file counter
	if err := c.Capture(ctx, client.CaptureConfig{Targets: []string{"web"}, SnapLen: 96}, &file); err != nil {
		log.Fatal(err)
	}
	fmt.Println(file > 0)
	// Output:
	// true
}

// counter stands for a file.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
