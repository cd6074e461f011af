package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Errors that callers test for with errors.Is. The errors that wrap them name
// the object and the way out.
var (
	// ErrNoNetns: the path or process names no network namespace.
	ErrNoNetns = errors.New("no such network namespace")
	// ErrExists: an interface of that name is there already.
	ErrExists = errors.New("interface exists")
	// ErrHasDefault: the namespace has a default route of that family.
	ErrHasDefault = errors.New("a default route is there already")
	// ErrNotFound: no interface of that name.
	ErrNotFound = errors.New("no such interface")
	// ErrUplink: the interface cannot serve as an uplink.
	ErrUplink = errors.New("not usable as an uplink")
)

// Host is the network namespace of the process. Its methods are safe for
// concurrent use. All threads of the process must be in that namespace: sysctls
// and new sockets belong to the thread that asks.
type Host struct {
	route  *conn // orders and dumps
	diag   *conn // sock_diag
	raw    []*os.File
	ns     *Netns
	doomed *doomed

	families *os.File // of netlink, see serves

	xfrmMu sync.Mutex // guards xfrm
	xfrm   *conn      // security associations; nil: nobody used them so far

	chains chainsAsked

	ahead, once atomic.Pointer[reading] // see ReadOnce
	reads       sync.WaitGroup          // of ReadAhead

	// Requests to turn offloads off; nil: the kernel names no features.
	undescribable, undescribableUDP *ethtoolFeatures
}

// New opens the netlink sockets of the namespace the process is in.
func New() (*Host, error) {
	ns, err := OpenNetns("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	h := &Host{ns: ns, doomed: newDoomed()}
	for _, c := range []struct {
		conn   **conn
		family int
	}{{&h.route, unix.NETLINK_ROUTE}, {&h.diag, unix.NETLINK_INET_DIAG}, {&h.doomed.conn, unix.NETLINK_ROUTE}} {
		if *c.conn, err = dial(c.family); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	if h.raw, err = openRaw(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if h.families, err = os.Open("/proc/thread-self/net/netlink"); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	// Without an answer AddVeth does without, as describable says.
	h.undescribable, _ = h.route.featureBits("lo", undescribable)
	h.undescribableUDP, _ = h.route.featureBits("lo", append(slices.Clone(undescribable), udpSegmentation))
	return h, nil
}

// Close closes the sockets. A Watch that runs goes on until its context ends.
func (h *Host) Close() error {
	h.reads.Wait()
	for _, c := range []*conn{h.route, h.diag, h.xfrm, h.doomed.conn} {
		if c != nil {
			c.close()
		}
	}
	for _, f := range h.raw {
		f.Close()
	}
	h.families.Close()
	return h.ns.Close()
}

// sysctl writes an IPv6 setting of an interface. A kernel without IPv6 has none
// to write.
func sysctl(ifname, key, value string) error {
	return sysctlOf("ipv6", ifname, key, value)
}

func sysctlOf(family, ifname, key, value string) error {
	path := "/proc/sys/net/" + family + "/conf/" + ifname + "/" + key
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w: the daemon needs a writable /proc/sys/net", ifname, err)
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
