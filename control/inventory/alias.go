package inventory

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// The alias of a link says what it is, in words, so that a network and a container can be
// found again when the state is lost: whose it is, names, IDs, addresses, and all that
// keeps one from reaching another.

// maxAlias is IFALIASZ without its zero.
const maxAlias = 255

// words are the fields of an alias, KEY=VALUE.
type words []string

func (w *words) add(key, value string) {
	if value != "" {
		*w = append(*w, key+"="+value)
	}
}

func (w words) get(key string) string {
	for _, f := range w {
		if v, ok := strings.CutPrefix(f, key+"="); ok {
			return v
		}
	}
	return ""
}

const networkWord = "network"

// OfNetwork is the alias of a network's device.
func (k Marks) OfNetwork(rec state.Network) string {
	w := words{networkWord, rec.Name}
	w.add("id", rec.ID)
	var subnets, is []string
	for _, s := range rec.Subnets {
		text := netip.PrefixFrom(s.Gateway, s.Prefix.Bits()).String()
		if s.Mode != "" {
			text += "/" + s.Mode
		}
		subnets = append(subnets, text)
	}
	w.add("gw", strings.Join(subnets, ","))
	for word, field := range networkFlags(&rec) {
		if *field {
			is = append(is, word)
		}
	}
	slices.Sort(is)
	w.add("is", strings.Join(is, ","))
	w.add("filter", rec.Filter)
	return k.fit(w)
}

func networkFlags(rec *state.Network) map[string]*bool {
	return map[string]*bool{
		"internal": &rec.Internal, "noicc": &rec.NoICC, "ephemeral": &rec.Ephemeral, "nohost": &rec.NoHostAccess, "nodns": &rec.NoDNS,
	}
}

// OfEndpoint is the alias of the host end of a cable.
func (k Marks) OfEndpoint(e *Endpoint) string {
	rec := &e.Container.Rec
	w := words{rec.Name + "/" + e.Ifname}
	w.add("net", e.Network.Rec.ID)
	var addrs []string
	for _, a := range e.Addrs {
		addrs = append(addrs, a.String())
	}
	w.add("ip", strings.Join(addrs, ","))
	var er state.Endpoint
	e.Layer2.Keep(&er)
	w.add("guard", er.Guard)
	if er.VLAN != 0 {
		w.add("vlan", strconv.Itoa(er.VLAN))
	}
	w.add("trunk", er.Trunk)
	w.add("egress", e.Egress)
	if rec.Runtime != "" {
		w = k.with(w, "by="+rec.Runtime+":"+rec.RuntimeID)
	}
	return k.fit(k.with(w, "id="+rec.ID))
}

// with adds a word that may be missing, where there is room for it.
func (k Marks) with(w words, word string) words {
	more := append(slices.Clone(w), word)
	if len(k.Alias())+len(strings.Join(more, " ")) > maxAlias {
		return w
	}
	return more
}

// fit leaves all but the names out where they are too much: what is not known whole is not
// to be guessed.
func (k Marks) fit(w words) string {
	if full := k.Alias() + strings.Join(w, " "); len(full) <= maxAlias {
		return full
	}
	n := 1
	if w[0] == networkWord {
		n = 2
	}
	return k.Alias() + strings.Join(w[:n], " ")
}

// OwnerOf is the identity of the state directory that an alias names, "" when none.
func OwnerOf(alias string) string {
	rest, ok := strings.CutPrefix(alias, "vswitch:")
	if !ok {
		return ""
	}
	id, _, ok := strings.Cut(rest, ":")
	if !ok {
		return ""
	}
	return id
}

// NetworkIn reads OfNetwork. ok is false when it does not say all.
func (k Marks) NetworkIn(alias string) (rec state.Network, ok bool) {
	w := k.words(alias)
	if len(w) < 3 || w[0] != networkWord {
		return rec, false
	}
	rec.Name, rec.ID, rec.Filter = w[1], w.get("id"), w.get("filter")
	flags := networkFlags(&rec)
	for word := range strings.SplitSeq(w.get("is"), ",") {
		if field := flags[word]; field != nil {
			*field = true
		} else if word != "" {
			return rec, false // of a later version: it may keep somebody out
		}
	}
	for text := range strings.SplitSeq(w.get("gw"), ",") {
		var s state.Subnet
		addr, rest, _ := strings.Cut(text, "/")
		bits, mode, _ := strings.Cut(rest, "/")
		p, err := netip.ParsePrefix(addr + "/" + bits)
		if err != nil {
			return rec, false
		}
		s.Prefix, s.Gateway, s.Mode = p.Masked(), p.Addr(), mode
		rec.Subnets = append(rec.Subnets, s)
	}
	return rec, rec.ID != "" && model.CheckName("network", rec.Name) == nil
}

// EndpointIn reads OfEndpoint. ok is false when it does not say all.
func (k Marks) EndpointIn(alias string) (ct state.Container, e state.Endpoint, ok bool) {
	w := k.words(alias)
	if len(w) < 2 {
		return ct, e, false
	}
	ct.Name, e.Ifname, _ = strings.Cut(w[0], "/")
	ct.Mode, e.Alias, e.Network = api.ModeBridge, alias, w.get("net")
	for text := range strings.SplitSeq(w.get("ip"), ",") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return ct, e, false
		}
		e.Addrs = append(e.Addrs, a)
	}
	e.Guard, e.Trunk, e.Egress = w.get("guard"), w.get("trunk"), w.get("egress")
	if v := w.get("vlan"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return ct, e, false
		}
		e.VLAN = n
	}
	ct.Runtime, ct.RuntimeID, _ = strings.Cut(w.get("by"), ":")
	ct.ID = w.get("id") // "": there was no room, or the daemon was one that did not say it
	return ct, e, e.Network != "" && model.CheckName("container", ct.Name) == nil
}

func (k Marks) words(alias string) words {
	rest, ok := strings.CutPrefix(alias, k.Alias())
	if !ok {
		return nil
	}
	return strings.Fields(rest)
}
