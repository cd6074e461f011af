package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// Bounds of what a container may want of names.
const (
	maxNames   = 64  // of a list
	maxDNSName = 253 // RFC 1035, 2.3.4, as text
)

// checkDNSName accepts what programs ask for: labels of at most 63 bytes.
func checkDNSName(what, name string) error {
	if len(name) > maxDNSName || slices.ContainsFunc(strings.Split(name, "."), func(l string) bool { return l == "" || len(l) > 63 }) {
		return fmt.Errorf("%s %.80q is no name of DNS: its parts have 1 to 63 bytes", what, name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"\\;#,`, c) >= 0 {
			return fmt.Errorf("%s %.80q is no name of DNS: use letters, digits and any of _ . -", what, name)
		}
	}
	return nil
}

func checkAliases(list []string) error {
	if len(list) > maxNames {
		return fmt.Errorf("%d aliases: at most %d are kept", len(list), maxNames)
	}
	for _, a := range list {
		if err := checkDNSName("alias", a); err != nil {
			return err
		}
	}
	return nil
}

func checkHostname(name string) error {
	if name == "" {
		return nil
	}
	const most = 64 // of the kernel, __NEW_UTS_LEN
	if len(name) > most {
		return fmt.Errorf("hostname %.20q... is %d bytes long: use at most %d", name, len(name), most)
	}
	return checkDNSName("hostname", name)
}

// CheckServers reads addresses of name servers.
func CheckServers(list []string) (out []netip.Addr, err error) {
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("name server %.60q is no address: write it like 192.0.2.53", s)
		}
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) > maxNames {
		return nil, fmt.Errorf("%d name servers: at most %d are kept", len(out), maxNames)
	}
	return out, nil
}

func checkDNS(in *api.DNS) (d state.DNS, err error) {
	if in == nil {
		return d, nil
	}
	if len(in.Search) > maxNames || len(in.Options) > maxNames || len(in.Hosts) > 4*maxNames {
		return d, fmt.Errorf("more domains, options or hosts than are kept: %d, and four times as many hosts", maxNames)
	}
	for _, s := range in.Search {
		if s != "." {
			if err := checkDNSName("domain", strings.TrimSuffix(s, ".")); err != nil {
				return d, err
			}
		}
	}
	for _, o := range in.Options {
		if o == "" || strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return d, fmt.Errorf("option %.60q of resolv.conf: write it like ndots:2", o)
		}
	}
	if d.Servers, err = CheckServers(in.Servers); err != nil {
		return d, err
	}
	for _, s := range in.Hosts {
		name, text, ok := strings.Cut(s, ":")
		if !ok {
			name, text, ok = strings.Cut(s, "=")
		}
		h := state.Host{Name: name}
		if text != api.HostGateway {
			a, err := netip.ParseAddr(strings.Trim(text, "[]"))
			if h.Addr = a.Unmap(); !ok || err != nil {
				return d, fmt.Errorf("host %.80q: write NAME:ADDR or NAME:%s", s, api.HostGateway)
			}
		}
		if err := checkDNSName("host", name); err != nil {
			return d, err
		}
		d.Hosts = append(d.Hosts, h)
	}
	d.Search, d.Options = in.Search, in.Options
	return d, nil
}

// ViewDNS is checkDNS backwards.
func ViewDNS(d state.DNS) *api.DNS {
	if d.IsZero() {
		return nil
	}
	v := &api.DNS{Search: d.Search, Options: d.Options, Servers: addrTexts(d.Servers)}
	for _, h := range d.Hosts {
		text := api.HostGateway
		if h.Addr.IsValid() {
			text = h.Addr.String()
		}
		v.Hosts = append(v.Hosts, h.Name+":"+text)
	}
	return v
}

func addrTexts(list []netip.Addr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// updateServers is a list with some added, at its end, and some dropped.
func updateServers(list []netip.Addr, add, drop []string) ([]netip.Addr, error) {
	if len(add) == 0 && len(drop) == 0 {
		return list, nil
	}
	gone, err := CheckServers(drop)
	if err != nil {
		return nil, err
	}
	for _, a := range gone {
		if !slices.Contains(list, a) {
			return nil, fmt.Errorf("name server %s is not one of its own: see vswitch network inspect", a)
		}
	}
	list = slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return slices.Contains(gone, a) })
	return CheckServers(append(addrTexts(list), add...))
}
