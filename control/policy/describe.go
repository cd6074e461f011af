package policy

import (
	"fmt"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// kind is what a rule that nobody wrote says. Entries of carried flows have it, so a
// number keeps its meaning.
type kind uint8

const (
	_ kind = iota
	inNetwork
	networksApart
	vlansApart
	unasked
	published
	wayOut
	toHost
	icc
	isolatedPorts
	internal
	hostAccess
	closed
	routed
	exempt
	direct
	pings
	filterEIF
	fromHost
	asksNames
)

var words = [...]string{
	inNetwork:     "containers of a network reach each other",
	networksApart: "networks are kept apart",
	vlansApart:    "VLANs are kept apart",
	unasked:       "the outside comes in by published ports and as an answer",
	published:     "a published port is open to everybody",
	wayOut:        "containers may go out",
	toHost:        "containers may reach the host",
	icc:           "its containers do not reach each other (--icc=false)",
	isolatedPorts: "its isolated containers do not reach each other",
	internal:      "it has no way out (--internal)",
	hostAccess:    "its containers begin nothing to the host (--host-access=false)",
	closed:        "its gateway takes no packets (mode isolated)",
	routed:        "the outside sees its containers' own addresses (mode routed)",
	exempt:        "the destination is exempt from masquerade (--exempt)",
	direct:        "the port is published, and open at the container's own address (mode routed)",
	pings:         "ICMP queries may come in (mode routed)",
	filterEIF:     "everybody may come in by a mapping (--nat-filter eif)",
	fromHost:      "the host reaches its containers",
	asksNames:     "its containers ask the gateway for names",
}

// written marks the numbers of rules that somebody wrote.
const written = dataplane.RuleID(1) << 31

// ofNetwork is the number of a rule that says how a network was made, or of one that
// holds in all of them (0). It depends on nothing else, so entries of carried flows stay
// as they are when others come and go.
func ofNetwork(n frame.NetworkID, k kind) dataplane.RuleID {
	return dataplane.RuleID(n)<<8 | dataplane.RuleID(k)
}

// Describe says which rule a number is of: "network shop: it has no way out
// (--internal)". names finds the name of a network, and rules that of a written rule. It
// returns "" for 0 and for what it does not know.
func Describe(id dataplane.RuleID, names func(frame.NetworkID) string, rules func(number uint32) string) string {
	if id&written != 0 {
		if name := rules(uint32(id &^ written)); name != "" {
			return "rule " + name
		}
		return ""
	}
	k, n := kind(id), frame.NetworkID(id>>8)
	if k == 0 || int(k) >= len(words) {
		return ""
	}
	if n == 0 {
		return words[k]
	}
	name := names(n)
	if name == "" {
		name = "that is gone"
	}
	return fmt.Sprintf("network %s: %s", name, words[k])
}
