package web

import (
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// published measures what published ports carry by the bytes of their flows. The
// rate that a flow has of its own says too much of one that lasts for a moment.
type published struct {
	rates map[string]float64 // bytes a second, by "web tcp 8080"
	bytes map[flowKey]uint64 // of each flow, as last seen
	at    time.Time
}

type flowKey struct{ proto, address, peer string }

// take compares the flows with those of the call before.
func (p *published) take(flows []api.Flow, now time.Time) {
	was, dt := p.bytes, now.Sub(p.at).Seconds()
	first := was == nil
	p.rates, p.bytes, p.at = make(map[string]float64), make(map[flowKey]uint64), now
	for i := range flows {
		f := &flows[i]
		if f.Outside == "" || f.Container == "" || f.Direction != api.FlowIn {
			continue
		}
		key, n := flowKey{f.Proto, f.Address, f.PeerAddress}, f.SentBytes+f.ReceivedBytes
		p.bytes[key] = n
		before, seen := was[key]
		if n < before { // another flow between the same ends
			before, seen = 0, false
		}
		if first || dt <= 0 || n == before || !seen && f.Age > dt+1 {
			continue
		}
		port := f.Outside[strings.LastIndexByte(f.Outside, ':')+1:]
		p.rates[f.Container+" "+f.Proto+" "+port] += float64(n-before) / dt
	}
}
