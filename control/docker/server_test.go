package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// post makes a call and decodes its answer.
func post(t testing.TB, h http.Handler, method, body string) (status int, out map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/"+method, strings.NewReader(body)))
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v in %q", method, err, w.Body)
	}
	return w.Code, out
}

func TestBadRequests(t *testing.T) {
	h := Handler(newLedger(), nil, quiet)
	for _, tc := range []struct {
		name, method, body string
		want               int
	}{
		{"too large", "NetworkDriver.CreateNetwork", `{"NetworkID":"` + strings.Repeat("x", MaxBody) + `"}`, 413},
		{"deep", "NetworkDriver.CreateNetwork", strings.Repeat("[", 100000), 400},
		{"empty", "NetworkDriver.Join", "", 400},
		{"an array", "IpamDriver.RequestPool", "[]", 400},
	} {
		status, out := post(t, h, tc.method, tc.body)
		if text, _ := out["Err"].(string); status != tc.want || !strings.HasPrefix(text, "vswitch: ") || strings.Contains(text, "\n") {
			t.Errorf("%s: status %d, %v, want %d and one line", tc.name, status, out, tc.want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/NetworkDriver.Join", nil))
	if w.Code != 404 {
		t.Errorf("GET: status %d", w.Code)
	}
}

// TestClientGoesAway: half a request does nothing, a whole one is carried out
// though nobody waits for its answer.
func TestClientGoesAway(t *testing.T) {
	b := newLedger()
	asked := make(chan string, 16)
	b.note = func(what string, _ any) { asked <- what }
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := New(b, nil, quiet)
	go srv.Serve(l)
	defer srv.Close()
	body := `{"NetworkID":"1","Options":{},"IPv4Data":[{"Pool":"10.9.0.0/24","Gateway":"10.9.0.1/24"}]}`
	send := func(part string) {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), part)
		c.Close()
	}
	send(body[:20])
	send(body)
	if got := <-asked; got != "CreateNetwork" {
		t.Errorf("asked for %s", got)
	}
	select {
	case got := <-asked:
		t.Errorf("asked for %s as well", got)
	case <-time.After(50 * time.Millisecond):
	}
}

// TestPoolsAtOnce: nobody is told a subnet that another was told just before.
func TestPoolsAtOnce(t *testing.T) {
	h := Handler(newLedger(), nil, quiet)
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := make(map[string]bool)
	for range 20 {
		wg.Go(func() {
			_, out := post(t, h, "IpamDriver.RequestPool", `{"AddressSpace":"vswitch-local","Options":{},"V6":false}`)
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(out["Pool"])] = true
		})
	}
	wg.Wait()
	if len(got) != 20 {
		t.Errorf("%d different subnets of 20: %v", len(got), got)
	}
	// One that is given back is told again.
	if _, out := post(t, h, "IpamDriver.ReleasePool", `{"PoolID":"10.88.7.0/24"}`); len(out) > 0 {
		t.Error(out)
	}
	if _, out := post(t, h, "IpamDriver.RequestPool", `{}`); out["Pool"] != "10.88.7.0/24" {
		t.Errorf("%v, want 10.88.7.0/24", out)
	}
}

// TestBackendFails: what the daemon refuses reaches dockerd as it is.
func TestBackendFails(t *testing.T) {
	b := newLedger()
	h := Handler(b, nil, quiet)
	post(t, h, "NetworkDriver.CreateNetwork", `{"NetworkID":"1","IPv4Data":[{"Pool":"10.9.0.0/24","Gateway":"10.9.0.1/24"}]}`)
	b.err = errors.New("no space left\non device")
	endpoint := `{"NetworkID":"1","EndpointID":"e","Interface":{"Address":"10.9.0.2/24"},"Options":{}}`
	if status, out := post(t, h, "NetworkDriver.CreateEndpoint", endpoint); status != 200 || out["Err"] != "vswitch: no space left; on device" {
		t.Errorf("status %d, %v", status, out)
	}
	post(t, h, "NetworkDriver.CreateEndpoint", endpoint)
	b.err = &kindred{api.ErrConflict, "port 80/tcp is held by httpd (pid 7): choose another host port"}
	pec := `{"NetworkID":"1","EndpointID":"e","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":80}]}}`
	if _, out := post(t, h, "NetworkDriver.ProgramExternalConnectivity", pec); !strings.Contains(fmt.Sprint(out["Err"]), "held by httpd") {
		t.Errorf("%v", out)
	}
	if ct, err := b.Container(context.Background(), "e"); err != nil || len(ct.Ports) > 0 {
		t.Errorf("%+v, %v", ct, err)
	}
}

func TestRulesMergeRanges(t *testing.T) {
	var list []portBinding
	for p := 65535; p >= 10000; p-- {
		for _, proto := range []uint8{6, 17} {
			list = append(list, portBinding{Proto: proto, Port: uint16(p), HostPort: uint16(p), HostPortEnd: uint16(p)})
		}
	}
	got, err := rules(list, "")
	if err != nil || fmt.Sprint(got) != "[10000-65535:10000-65535/tcp 10000-65535:10000-65535/udp]" {
		t.Errorf("%v, %v", got, err)
	}
	// Neighbours that are no range: another target, another address, a free port.
	got, err = rules([]portBinding{{Proto: 6, Port: 80, HostPort: 80}, {Proto: 6, Port: 80, HostPort: 81}, {Proto: 6, Port: 81, HostPort: 82, HostIP: "::ffff:127.0.0.1"}, {Proto: 6, Port: 82}, {Proto: 6, Port: 83}}, "")
	if err != nil || fmt.Sprint(got) != "[82/tcp 83/tcp 80:80/tcp 81:80/tcp 127.0.0.1:82:81/tcp]" {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzCall(f *testing.F) {
	methods := []string{"NetworkDriver.GwAllocCheck", "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join",
		"NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.DeleteNetwork", "IpamDriver.RequestPool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"}
	f.Add(uint8(1), []byte(`{"NetworkID":"1","Options":{"com.docker.network.generic":{"mtu":"1400"}},"IPv4Data":[{"Pool":"10.9.0.0/24","Gateway":"10.9.0.1/24"}]}`))
	f.Add(uint8(2), []byte(`{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.8.0.2/24"},"Options":{"org.vswitch.routes":"10.0.0.0/8=10.8.0.7"}}`))
	f.Add(uint8(4), []byte(`{"NetworkID":"n","EndpointID":"e","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":80,"HostPortEnd":90,"HostIP":"::1"}]}}`))
	f.Add(uint8(6), []byte(`{"Pool":"10.7.0.0/16","SubPool":"10.7.1.0/24","Options":{},"V6":false}`))
	f.Add(uint8(7), []byte(`{"PoolID":"10.8.0.0/24 10.8.0.0/25","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`))
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		b := newLedger()
		h := Handler(b, nil, quiet)
		post(t, h, methods[1], `{"NetworkID":"n","IPv4Data":[{"Pool":"10.8.0.0/24","Gateway":"10.8.0.1/24"}]}`)
		post(t, h, methods[2], `{"NetworkID":"n","EndpointID":"e","Interface":{},"Options":{}}`)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/"+methods[int(method)%len(methods)], strings.NewReader(string(body))))
		if w.Code == http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) || strings.Count(w.Body.String(), "\n") != 1 {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}

// serveDockerd serves a dockerd on a socket, and returns its path.
func serveDockerd(t *testing.T, d *fakeDockerd) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return path
}

// fakeDockerd serves networks and an event stream.
type fakeDockerd struct {
	mu       sync.Mutex
	networks map[string]string // JSON by ID
	list     string            // of containers, as JSON
	inspect  map[string]string // JSON of containers by ID
	events   chan string
}

func (f *fakeDockerd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/events" {
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-f.events:
				io.WriteString(w, e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/containers/json" {
		io.WriteString(w, cmp.Or(f.list, "[]"))
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/containers/"); ok && f.inspect[strings.TrimSuffix(id, "/json")] != "" {
		io.WriteString(w, f.inspect[strings.TrimSuffix(id, "/json")])
		return
	}
	if text, ok := f.networks[strings.TrimPrefix(r.URL.Path, "/networks/")]; ok {
		io.WriteString(w, text)
		return
	}
	http.Error(w, `{"message":"network not found"}`, http.StatusNotFound)
}

func (f *fakeDockerd) set(id, text string) {
	f.mu.Lock()
	f.networks[id] = text
	f.mu.Unlock()
	f.events <- "{}\n"
}

// shared is a ledger for two goroutines.
type shared struct {
	Backend
	mu sync.Mutex
}

func (s *shared) Networks(ctx context.Context) ([]api.Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.Backend.Networks(ctx)
	for i := range list {
		list[i].Labels = maps.Clone(list[i].Labels)
	}
	return list, err
}

func (s *shared) Network(ctx context.Context, name string) (api.Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.Backend.Network(ctx, name)
	n.Labels = maps.Clone(n.Labels)
	return n, err
}

func (s *shared) Container(ctx context.Context, name string) (api.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Backend.Container(ctx, name)
}

func (s *shared) UpdateNetwork(ctx context.Context, name string, in api.NetworkUpdate) (api.Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Backend.UpdateNetwork(ctx, name, in)
}

func (s *shared) UpdateContainer(ctx context.Context, name string, in api.ContainerUpdate) (api.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Backend.UpdateContainer(ctx, name, in)
}

func TestNames(t *testing.T) {
	b := newLedger()
	h := Handler(b, nil, quiet)
	for i, id := range []string{"a1", "b2", "gone"} {
		post(t, h, "NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":"%s","IPv4Data":[{"Pool":"10.%d.0.0/24","Gateway":"10.%[2]d.0.1/24"}]}`, id, i))
	}
	for id, network := range map[string]string{"e1": "a1", "e2": "b2", "e3": "a1"} {
		post(t, h, "NetworkDriver.CreateEndpoint", fmt.Sprintf(`{"NetworkID":"%s","EndpointID":"%s","Interface":{"Address":"10.0.0.%s/24"},"Options":{}}`, network, id, id[1:]))
	}
	d := &fakeDockerd{networks: map[string]string{}, events: make(chan string, 1)}
	path := serveDockerd(t, d)
	s := &shared{Backend: b}
	n := NewNames(s, path, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	want := func(names map[string]string) {
		t.Helper()
		var got map[string]string
		for range 3000 {
			got = make(map[string]string)
			for id := range names {
				ct, _ := s.Container(ctx, id)
				got[id] = ct.Name
			}
			if fmt.Sprint(got) == fmt.Sprint(names) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("names %v, want %v", got, names)
	}
	d.set("a1", `{"Name":"front","Containers":{"c1":{"Name":"web","EndpointID":"e1"},"c3":{"Name":"old","EndpointID":"e3"}}}`)
	want(map[string]string{"e1": "web", "e2": "e2", "e3": "old"})
	if ct, _ := s.Container(ctx, "web"); ct.Labels[api.LabelContainerID] != "c1" {
		t.Errorf("labels %v", ct.Labels)
	}
	if n, _ := s.Network(ctx, madeName("a1")); n.Labels[api.LabelDockerNetwork] != "front" {
		t.Errorf("labels of the network %v", n.Labels)
	}
	// dockerd lists an endpoint by its own ID until a container has it.
	d.set("b2", `{"Name":"back","Containers":{"ep-e2":{"Name":"web","EndpointID":"e2"}}}`)
	want(map[string]string{"e1": "web", "e2": "e2", "e3": "old"})
	// A second network of a container, and one that dockerd does not know.
	d.set("b2", `{"Name":"back","Containers":{"c1":{"Name":"web","EndpointID":"e2"}}}`)
	want(map[string]string{"e1": "web", "e2": "web.back", "e3": "old"})
	// The name moves to another container.
	d.set("b2", `{"Name":"back","Containers":{}}`)
	d.set("a1", `{"Name":"front","Containers":{"c1":{"Name":"was","EndpointID":"e1"},"c3":{"Name":"web","EndpointID":"e3"}}}`)
	d.set("a1", `{"Name":"front","Containers":{"c1":{"Name":"was","EndpointID":"e1"},"c3":{"Name":"web","EndpointID":"e3"}}}`)
	want(map[string]string{"e1": "was", "e3": "web"})
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("Names does not end")
	}
}

// What Docker's user says of a container comes with its name; what is ours to say does not.
func TestDetails(t *testing.T) {
	b := newLedger()
	h := Handler(b, nil, quiet)
	post(t, h, "NetworkDriver.CreateNetwork", `{"NetworkID":"a1","IPv4Data":[{"Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}]}`)
	post(t, h, "NetworkDriver.CreateEndpoint", `{"NetworkID":"a1","EndpointID":"e1","Interface":{"Address":"10.1.0.2/24"},"Options":{}}`)
	d := &fakeDockerd{
		networks: map[string]string{"a1": `{"Name":"front","Containers":{"c1":{"Name":"shop-web-1","EndpointID":"e1"}}}`},
		list:     `[{"Id":"c1","HostConfig":{"NetworkMode":"front"}},{"Id":"c2","HostConfig":{"NetworkMode":"container:c1"}},{"Id":"c3","HostConfig":{"NetworkMode":"container:other"}},{"Id":"c4","HostConfig":{"NetworkMode":"container:c1"}}]`,
		inspect: map[string]string{
			"c1": `{"Id":"c1","Name":"/shop-web-1","State":{"Pid":7},"Config":{"Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web","tier":"front",
				"org.vswitch.sandbox":"/of/another","com.docker.container.id":"victim","org.vswitch.aliases":"db"}},
				"NetworkSettings":{"Networks":{"front":{"EndpointID":"e1","Aliases":["www","c1","shop-web-1","web"]},"other":{"EndpointID":"e9","Aliases":["elsewhere"]}}}}`,
			"c2": fmt.Sprintf(`{"Id":"c2","Name":"/sniffer","State":{"Pid":%d},"Config":{"Labels":{"com.docker.compose.project":"shop"}}}`, os.Getpid()),
			"c4": `{"Id":"c4","Name":"/stranger","State":{"Pid":1073741824},"Config":{"Labels":{}}}`,
		},
		events: make(chan string, 1),
	}
	path := serveDockerd(t, d)
	b.containers["e1"].Labels = map[string]string{api.LabelSandbox: "/proc/self/ns/net"}
	n := NewNames(b, path, quiet)
	for range 2 { // the second time there is nothing to do
		if err := n.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.note = func(what string, in any) { t.Errorf("%s %+v", what, in) }
	}
	want := map[string]string{
		api.LabelProject: "shop", api.LabelService: "web", "tier": "front", api.LabelAliases: "web,www", api.LabelContainerID: "c1", api.LabelContainerName: "shop-web-1", api.LabelSandbox: "/proc/self/ns/net",
	}
	if ct, _ := b.Container(t.Context(), "e1"); ct.Name != "shop-web-1" || !maps.Equal(ct.Labels, want) {
		t.Errorf("%s has labels %v, want %v", ct.Name, ct.Labels, want)
	}
	side, err := b.Container(t.Context(), "c2")
	if err != nil || side.Name != "sniffer" || side.Mode != api.ModeContainer || side.Peer != "shop-web-1" || side.PID != os.Getpid() || side.Labels[api.LabelProject] != "shop" {
		t.Errorf("the container in its network is %+v, %v", side, err)
	}
	for id, why := range map[string]string{"c3": "is in the network of one that is not here", "c4": "has a process that is not there"} {
		if _, err := b.Container(t.Context(), id); err == nil {
			t.Errorf("%s %s, and is shown", id, why)
		}
	}
}
