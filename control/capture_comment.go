package control

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// title is what a capture calls a port: "web/eth0 (bridge)".
func (n portName) title() string {
	switch n.kind {
	case "container":
		return n.container + "/" + n.ifname + " (" + n.network + ")"
	case "host":
		return "host/" + n.ifname + " (" + n.network + ")"
	}
	return n.kind + "/" + n.ifname
}

// describe says what a point of a port is.
func (n portName) describe(p dataplane.Point) string {
	who := map[string]string{"container": "container " + n.container, "host": "the host"}[n.kind]
	if who == "" {
		who = "the outside"
	}
	switch p {
	case dataplane.PointRx:
		return "what " + who + " sent to the switch, by " + n.name
	case dataplane.PointTx:
		return "what the switch sent to " + who + ", by " + n.name
	case dataplane.PointDrop:
		return "what the switch dropped of " + who + ", by " + n.name
	case dataplane.PointPreNAT:
		return "routed from or to " + who + ", before translation"
	}
	return "routed from or to " + who + ", after translation"
}

// port is how a comment calls a port: "vethfcbb052798a (web)".
func (n *captureNames) port(id frame.PortID) string {
	p, ok := n.ports[id]
	switch {
	case !ok:
		return "a port that has gone"
	case p.container != "":
		return p.name + " (" + p.container + ")"
	case p.kind == "host":
		return p.name + " (host)"
	}
	return p.name
}

// comment says what the switch decided about a frame.
func (n *captureNames) comment(r *dataplane.CaptureRecord) string {
	v := &r.Verdict
	var parts []string
	if v.Translated {
		if v.From.Dst != v.To.Dst || v.From.DstPort != v.To.DstPort {
			parts = append(parts, "DNAT "+n.side(v.From.Dst, v.From.DstPort, v.From.Proto)+" -> "+n.side(v.To.Dst, v.To.DstPort, v.To.Proto))
		}
		if v.From.Src != v.To.Src || v.From.SrcPort != v.To.SrcPort {
			parts = append(parts, "SNAT "+n.side(v.From.Src, v.From.SrcPort, v.From.Proto)+" -> "+n.side(v.To.Src, v.To.SrcPort, v.To.Proto))
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
		parts = append(parts, "in "+n.port(v.In))
	case v.Fate == dataplane.FateHeld:
		parts = append(parts, "held until its next hop or first fragment is known")
	case v.Copies > 1:
		parts = append(parts, fmt.Sprintf("flooded to %d ports", v.Copies))
	case v.Out != frame.NoPort:
		parts = append(parts, "out "+n.port(v.Out))
	}
	return strings.Join(parts, ", ")
}

// side is one end of a flow, by its container's name where it is one's.
func (n *captureNames) side(a header.Addr, port uint16, proto uint8) string {
	addr := a.NetIP()
	name, known := n.hosts[addr]
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
