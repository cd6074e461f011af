package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestConnectDisconnect(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	for _, n := range []api.NetworkCreate{{Name: "blue", Subnet: "10.7.0.0/24"}, {Name: "six", Subnet: "fd00:7::/64"}} {
		if _, err := r.CreateNetwork(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	blue, blueCt := r.attach("blue", api.Attach{Networks: []api.Connect{{Network: "blue"}}})
	serve(t, web, ":80", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	if got, err := fetchFast(blue, addr(ct)+":80"); err == nil {
		t.Errorf("network blue reaches network bridge: %s", got)
	}
	got, err := r.Connect(ctx, "web", api.Connect{Network: "blue", IP: "10.7.0.50", Ifname: "blue0"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Endpoints) != 2 || got.Endpoints[1].Interface != "blue0" || got.Endpoints[1].DefaultRoute || !got.Endpoints[0].DefaultRoute {
		t.Errorf("endpoints %+v", got.Endpoints)
	}
	wantFetch(t, blue, "10.7.0.50:80", "web", addr(blueCt))
	wantFetch(t, web, netlab.FarAddr+":9000", "outside", netlab.HostAddr)

	// The default route and the published port move to the network that stays.
	if err := r.Disconnect(ctx, "web", "bridge"); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, web, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	if err := r.Disconnect(ctx, "web", "blue"); !client.IsConflict(err) || !strings.Contains(err.Error(), "only network") {
		t.Errorf("disconnect from the last network: %v", err)
	}

	// A network of the other family beside it.
	if _, err := r.Connect(ctx, "web", api.Connect{Network: "six"}); err != nil {
		t.Fatal(err)
	}
	six, sixCt := r.attach("six", api.Attach{Networks: []api.Connect{{Network: "six"}}, Publish: []string{"8086:80"}})
	serve(t, six, "[::]:80", "six")
	wantFetch(t, web, "["+addr(sixCt)+"]:80", "six", "fd00:7::2")
	wantFetch(t, r.world.Host, "["+addr(sixCt)+"]:80", "six", "fd00:7::1")
	serve(t, r.world.Outside, "[::]:9006", "outside6")
	// The host cannot ask for a neighbour before its link-local address has
	// passed duplicate address detection.
	eventually(t, "six reaches the outside", func() bool {
		got, err := fetchFast(six, "["+netlab.FarAddr6+"]:9006")
		return err == nil && strings.HasPrefix(got, "outside6 ["+netlab.HostAddr6+"]:")
	})
	wantFetch(t, r.world.Outside, "["+netlab.HostAddr6+"]:8086", "six", netlab.OutsideAddr6)
}

func TestInternalNetwork(t *testing.T) {
	r := newRig(t)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "inside", Subnet: "10.6.0.0/24", Internal: true}); err != nil {
		t.Fatal(err)
	}
	on := []api.Connect{{Network: "inside"}}
	a, act := r.attach("a", api.Attach{Networks: on})
	b, bct := r.attach("b", api.Attach{Networks: on})
	serve(t, b, ":80", "b")
	serve(t, r.world.Host, ":7000", "host")
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, a, addr(bct)+":80", "b", addr(act))
	wantFetch(t, a, "10.6.0.1:7000", "host", addr(act))
	if got, err := fetchFast(a, netlab.OutsideAddr+":9000"); err == nil {
		t.Errorf("an internal network reaches the outside: %s", got)
	}
	if act.Endpoints[0].DefaultRoute {
		t.Error("a default route out of an internal network")
	}
}

func TestPortsOfARunningContainer(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, _ := r.attach("web", api.Attach{PublishAll: true, Expose: []string{"80", "53/udp", "9000-9004"}})
	serve(t, web, ":80", "web")
	ports, err := r.Ports(ctx, "web")
	if err != nil || len(ports) != 3 {
		t.Fatalf("-P gave %+v, %v", ports, err)
	}
	for i, want := range []struct {
		proto string
		n     uint16
	}{{"tcp", 0}, {"udp", 0}, {"tcp", 4}} {
		p := ports[i]
		if p.Proto != want.proto || p.HostPort < 32768 || p.HostPortEnd > 60999 || p.HostPortEnd-p.HostPort != want.n {
			t.Errorf("random port %+v, want %d more of %s in 32768-60999", p, want.n, want.proto)
		}
	}
	wantFetch(t, r.world.Outside, net.JoinHostPort(netlab.HostAddr, strconv.Itoa(int(ports[0].HostPort))), "web", netlab.OutsideAddr)

	// A program of the host holds the first port of a range.
	taken, err := r.world.Host.Listen("tcp", ":8000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(ctx, "web", []string{"8500:80", "8000:80"}); !client.IsConflict(err) || !strings.Contains(err.Error(), "8000/tcp is held by") {
		t.Errorf("port of a program: %v", err)
	}
	if _, err := r.Publish(ctx, "web", []string{"7990-8010:7990-8010"}); !client.IsConflict(err) {
		t.Errorf("range over the port of a program: %v", err)
	}
	if now, err := r.Ports(ctx, "web"); err != nil || len(now) != 3 {
		t.Errorf("all or nothing: %+v, %v", now, err)
	}
	got, err := r.Publish(ctx, "web", []string{"8000-8005:80"})
	if err != nil || len(got) != 1 || got[0].HostPort != 8001 {
		t.Fatalf("first free port of a range: %+v, %v, want 8001", got, err)
	}
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8001", "web", netlab.OutsideAddr)
	// And a program that comes later does not get it.
	if l, err := r.world.Host.Listen("tcp", ":8001"); err == nil {
		l.Close()
		t.Error("a published port was taken by a program")
	}
	taken.Close()

	// On loopback alone.
	if _, err := r.Publish(ctx, "web", []string{"127.0.0.1:8600:80"}); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, r.world.Host, "127.0.0.1:8600", "web", "")
	if got, err := fetchFast(r.world.Outside, netlab.HostAddr+":8600"); err == nil {
		t.Errorf("a port of loopback is reached from outside: %s", got)
	}
	// On one address of the host.
	if _, err := r.Publish(ctx, "web", []string{netlab.HostAddr + ":8700:80"}); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8700", "web", netlab.OutsideAddr)
	wantFetch(t, r.world.Host, netlab.HostAddr+":8700", "web", "")

	if err := r.Unpublish(ctx, "web", []string{"8001:80", "127.0.0.1:8600:80"}); err != nil {
		t.Fatal(err)
	}
	if _, err := fetchFast(r.world.Outside, netlab.HostAddr+":8001"); err == nil {
		t.Error("an unpublished port answers")
	}
	if l, err := r.world.Host.Listen("tcp", ":8001"); err != nil {
		t.Errorf("an unpublished port is not free: %v", err)
	} else {
		l.Close()
	}
}

// TestHostChanges: addresses, routes and uplinks of the host change under a
// running daemon.
func TestHostChanges(t *testing.T) {
	r := newRig(t)
	h := r.world.Host
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.DelRoute("default", netlab.OutsideAddr, "eth0"))
	must(h.DelRoute("default", netlab.OutsideAddr6, "eth0"))
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	reach := func(at, from string) func() bool {
		return func() bool {
			got, err := fetchFast(web, at)
			return err == nil && strings.HasPrefix(got, "outside "+from+":")
		}
	}
	if got, err := fetchFast(web, netlab.OutsideAddr+":9000"); err == nil {
		t.Errorf("without an uplink the outside answers: %s", got)
	}
	must(h.AddRoute("default", netlab.OutsideAddr, "eth0"))
	eventually(t, "an uplink appears with its route", reach(netlab.FarAddr+":9000", netlab.HostAddr))

	// A second address takes the place of the first.
	must(h.AddAddr("eth0", "198.51.100.2/24"))
	must(h.DelRoute("default", netlab.OutsideAddr, "eth0"))
	must(h.DelAddr("eth0", netlab.HostAddr+"/24")) // takes its secondary along
	must(h.AddAddr("eth0", "198.51.100.3/24"))
	must(h.AddRoute("default", netlab.OutsideAddr, "eth0"))
	eventually(t, "masquerade uses the new address", reach(netlab.FarAddr+":9000", "198.51.100.3"))
	eventually(t, "published on the new address", func() bool {
		got, err := fetchFast(r.world.Outside, "198.51.100.3:8080")
		return err == nil && strings.HasPrefix(got, "web")
	})

	// The next hop gets another MAC.
	must(r.world.Outside.SetMAC("eth0", "02:00:00:00:00:99"))
	out, err := h.Command("ip", "neigh", "replace", netlab.OutsideAddr, "dev", "eth0", "lladdr", "02:00:00:00:00:99").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "the next hop's new MAC is used", reach(netlab.FarAddr+":9000", "198.51.100.3"))

	// A second uplink for one destination.
	must(netlab.Veth(h, "eth9", r.world.Outside, "eth9", 1500))
	must(errors.Join(h.AddAddr("eth9", "198.51.101.1/24"), r.world.Outside.AddAddr("eth9", "198.51.101.9/24"),
		h.SetUp("eth9"), r.world.Outside.SetUp("eth9"),
		r.world.Outside.AddAddr("lo", "203.0.113.77/32")))
	out, err = h.Command("ip", "route", "add", "default", "via", "198.51.101.9", "dev", "eth9", "metric", "500").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(h.AddRoute("203.0.113.77/32", "198.51.101.9", "eth9"))
	eventually(t, "the second uplink carries its route", reach("203.0.113.77:9000", "198.51.101.1"))
	if st, err := r.Info(t.Context()); err != nil || len(st.Uplinks) != 2 {
		t.Errorf("uplinks %+v, %v, want two", st.Uplinks, err)
	}
	must(h.DelLink("eth9"))
	eventually(t, "the second uplink is closed", func() bool {
		st, err := r.Info(t.Context())
		return err == nil && len(st.Uplinks) == 1
	})
	wantFetch(t, web, netlab.FarAddr+":9000", "outside", "198.51.100.3")

}

// fetchFast is fetch for what may fail: it gives up soon.
func fetchFast(ns *netlab.NS, at string) (string, error) {
	c, err := ns.Dial("tcp", at, 200*time.Millisecond)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestCapture(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{})
	db, _ := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	var buf syncBuffer
	var wg sync.WaitGroup
	wg.Go(func() {
		err := r.Client.Capture(ctx, client.CaptureConfig{Targets: []string{"web"}, Started: func() { close(started) }}, &buf)
		if err != nil {
			t.Error(err)
		}
	})
	<-started
	wantFetch(t, db, addr(ct)+":80", "web", "")
	// What is on its way when the capture is ended still comes.
	cancel()
	wg.Wait()
	frames, fins, err := readCapture(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if fins != 2 {
		t.Errorf("%d of 2 FINs are in the file: the end of the exchange is lost", fins)
	}
	dirs := map[int]int{}
	for _, f := range frames {
		dirs[f]++
	}
	if dirs[1] == 0 || dirs[2] == 0 {
		t.Errorf("directions %v, want in and out", dirs)
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		cmd := exec.Command("tshark", "-r", "-", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", "_ws.expert.severity >= \"Error\"")
		cmd.Stdin = bytes.NewReader(buf.Bytes())
		if out, err := cmd.Output(); err != nil || len(out) > 0 {
			t.Errorf("tshark: %v\n%s", err, out)
		}
	}
	if err := r.Client.Capture(t.Context(), client.CaptureConfig{Targets: []string{"nosuch"}}, io.Discard); !client.IsNotFound(err) {
		t.Errorf("capture of an unknown container: %v", err)
	}
}

// readCapture returns the direction of each frame and the number of FINs.
func readCapture(b []byte) (dirs []int, fins int, err error) {
	ng, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return nil, 0, err
	}
	if nic, err := ng.Interface(0); err != nil || nic.Name != "web/eth0 (bridge) rx" {
		return nil, 0, errors.Join(err, errors.New("interface "+nic.Name))
	}
	for {
		data, ci, opts, err := ng.ReadPacketDataWithOptions()
		if err != nil {
			return dirs, fins, nil
		}
		if opts.Flags == nil || len(data) != ci.Length {
			return nil, 0, errors.New("a frame without direction or cut")
		}
		dirs = append(dirs, int(opts.Flags.Direction))
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && tcp.FIN {
			fins++
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *syncBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.b)
}

// TestN08OverlapWithHost (RFC 4787 REQ-7): subnets that the host's routes use are refused, or
// skipped where the daemon chooses.
func TestN08OverlapWithHost(t *testing.T) {
	r := newRig(t)
	if err := r.world.Host.AddRoute("10.88.0.0/23", netlab.OutsideAddr, "eth0"); err != nil {
		t.Fatal(err)
	}
	r.start()
	n, err := r.Network(t.Context(), model.DefaultNetwork)
	if err != nil || n.Subnet != "10.88.2.0/24" {
		t.Errorf("default network %+v, %v, want 10.88.2.0/24", n, err)
	}
	_, err = r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "x", Subnet: "10.88.1.0/24"})
	if !client.IsConflict(err) || !strings.Contains(err.Error(), "network x: subnet 10.88.1.0/24 overlaps route 10.88.0.0/23") || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("overlap: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	labtest.Need(t)
	dir := t.TempDir()
	_, err := client.New(dir + "/vswitch.sock").Info(t.Context())
	want := `no vswitch daemon at ` + dir + `/vswitch.sock: start one with "vswitch daemon"`
	if !errors.Is(err, client.ErrNoDaemon) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
