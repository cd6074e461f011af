package observe

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// describe says what a point of a port is.
func describe(n directory.Port, p dataplane.Point) string {
	who := map[string]string{directory.KindContainer: "container " + n.Container, directory.KindHost: "the host"}[n.Kind]
	if who == "" {
		who = "the outside"
	}
	switch p {
	case dataplane.PointRx:
		return "what " + who + " sent to the switch, by " + n.Name
	case dataplane.PointTx:
		return "what the switch sent to " + who + ", by " + n.Name
	case dataplane.PointDrop:
		return "what the switch dropped of " + who + ", by " + n.Name
	case dataplane.PointPreNAT:
		return "routed from or to " + who + ", before translation"
	}
	return "routed from or to " + who + ", after translation"
}

// portText is how a comment calls a port: "vethfcbb052798a (web)". A port that is gone
// keeps its name: frames of it may still be read.
func portText(names *directory.Directory, id frame.PortID) string {
	p, ok := names.LastPort(id)
	switch {
	case !ok:
		return "a port that has gone"
	case p.Container != "":
		return p.Name + " (" + p.Container + ")"
	case p.Kind == directory.KindHost:
		return p.Name + " (host)"
	}
	return p.Name
}

// comment says what the switch decided about a frame.
func comment(names *directory.Directory, r *dataplane.CaptureRecord) string {
	v := &r.Verdict
	var parts []string
	if v.Translated {
		if v.From.Dst != v.To.Dst || v.From.DstPort != v.To.DstPort {
			parts = append(parts, "DNAT "+endText(names, v.From.Dst, v.From.DstPort, v.From.Proto)+" -> "+endText(names, v.To.Dst, v.To.DstPort, v.To.Proto))
		}
		if v.From.Src != v.To.Src || v.From.SrcPort != v.To.SrcPort {
			parts = append(parts, "SNAT "+endText(names, v.From.Src, v.From.SrcPort, v.From.Proto)+" -> "+endText(names, v.To.Src, v.To.SrcPort, v.To.Proto))
		}
	}
	switch {
	case v.Fate == dataplane.FateDropped:
		parts = append(parts, "dropped: "+v.Reason.String())
	case v.Fate == dataplane.FateOwn:
		parts = append(parts, "made by the switch")
	case v.Fate == dataplane.FateAnswered:
		parts = append(parts, "answered by the switch")
	case r.Point == dataplane.PointTx:
		parts = append(parts, "in "+portText(names, v.In))
	case v.Fate == dataplane.FateHeld:
		parts = append(parts, "held until its next hop or first fragment is known")
	case v.Copies > 1:
		parts = append(parts, fmt.Sprintf("flooded to %d ports", v.Copies))
	case v.Out != frame.NoPort:
		parts = append(parts, "out "+portText(names, v.Out))
	}
	return strings.Join(parts, ", ")
}

// endText is one end of a flow, by its container's name where it is one's.
func endText(names *directory.Directory, a header.Addr, port uint16, proto uint8) string {
	addr := a.NetIP()
	name, known := names.ContainerAt(addr)
	if proto != header.ProtoTCP && proto != header.ProtoUDP {
		if !known {
			name = addr.String()
		}
		if port != 0 {
			name += " id " + strconv.Itoa(int(port)) // of an ICMP query
		}
		return name
	}
	if !known {
		return netip.AddrPortFrom(addr, port).String()
	}
	return name + ":" + strconv.Itoa(int(port))
}
