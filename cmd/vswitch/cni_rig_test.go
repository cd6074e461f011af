package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// ipamName is the test binary as an IPAM plugin: it gives what its
// configuration says and writes down what it was called with.
const ipamName = "fixed-ipam"

func beIPAM() {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		os.Exit(1)
	}
	var conf struct {
		CNIVersion string `json:"cniVersion"`
		IPAM       struct {
			Log  string          `json:"log"`
			IPs  json.RawMessage `json:"ips"`
			Fail string          `json:"fail"`
		} `json:"ipam"`
	}
	if err := json.Unmarshal(in, &conf); err != nil {
		os.Exit(1)
	}
	f, err := os.OpenFile(conf.IPAM.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(1)
	}
	fmt.Fprintln(f, os.Getenv("CNI_COMMAND"), os.Getenv("CNI_IFNAME"))
	if conf.IPAM.Fail == os.Getenv("CNI_COMMAND") {
		fmt.Print(`{"code":120,"msg":"no address left"}`)
		os.Exit(1)
	}
	if os.Getenv("CNI_COMMAND") == "ADD" {
		fmt.Printf(`{"cniVersion":%q,"ips":%s,"dns":{"nameservers":["10.7.0.53"]}}`, conf.CNIVersion, conf.IPAM.IPs)
	}
	os.Exit(0)
}

// cniRig is a CNI runtime on the host of a daemon: libcni, in this process.
type cniRig struct {
	*rig
	libcni.CNI
	dir string
}

func newCNIRig(t *testing.T) *cniRig {
	r := &cniRig{rig: newRig(t), dir: t.TempDir()}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vswitch", ipamName} {
		if err := os.Symlink(exe, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.CNI = libcni.NewCNIConfigWithCacheDir([]string{r.dir}, filepath.Join(r.dir, "cache"), nil)
	return r
}

// list is a network of plugin vswitch with further words.
func (r *cniRig) list(version, name, words string) *libcni.NetworkConfigList {
	r.t.Helper()
	if words != "" {
		words = "," + words
	}
	l, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion":%q,"name":%q,"plugins":[
		{"type":"vswitch","socket":%q,"capabilities":{"portMappings":true,"mac":true,"ips":true,"ipRanges":true,"bandwidth":true,"aliases":true,"dns":true}%s}]}`,
		version, name, filepath.Join(r.runDir(), "vswitch.sock"), words))
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// on runs fn in the host's namespace, as the runtime does.
func (r *cniRig) on(fn func() error) error { return r.world.Host.Do(fn) }

func (r *cniRig) add(l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (res *types100.Result, err error) {
	err = r.on(func() error {
		out, err := r.AddNetworkList(r.t.Context(), l, rt)
		if err == nil {
			res, err = types100.NewResultFromResult(out)
		}
		return err
	})
	return res, err
}

func (r *cniRig) mustAdd(l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) *types100.Result {
	r.t.Helper()
	res, err := r.add(l, rt)
	if err != nil {
		r.t.Fatalf("ADD %s %s: %v", rt.ContainerID, rt.IfName, err)
	}
	return res
}

func (r *cniRig) del(l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	return r.on(func() error { return r.DelNetworkList(r.t.Context(), l, rt) })
}

func (r *cniRig) check(l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	return r.on(func() error { return r.CheckNetworkList(r.t.Context(), l, rt) })
}

func (r *cniRig) names() (names []string) {
	r.t.Helper()
	for _, ct := range decode[[]api.Container](r.rig, "ps") {
		names = append(names, ct.Name)
	}
	return names
}

// hello answers TCP on a port of a namespace with its name.
func hello(t *testing.T, ns *netlab.NS, port int) {
	t.Helper()
	l, err := ns.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) { _, _ = io.WriteString(c, ns.Name()) })
}

func wantHello(t *testing.T, from *netlab.NS, at, name string) {
	t.Helper()
	c, err := from.Dial("tcp", at, 20*time.Second)
	if err != nil {
		t.Errorf("%s to %s: %v", from.Name(), at, err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(c); err != nil || string(got) != name {
		t.Errorf("%s to %s: %q, %v, want %q", from.Name(), at, got, err, name)
	}
}
