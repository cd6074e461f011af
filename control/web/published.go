package web

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
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
func (p *published) take(ctx context.Context, r *readers.Readers, flows server.Rows[api.Flow], now time.Time) error {
	was, dt := p.bytes, now.Sub(p.at).Seconds()
	first := was == nil
	p.rates, p.bytes, p.at = make(map[string]float64), make(map[flowKey]uint64), now
	next, stop := iter.Pull(flows)
	defer stop()
	for more := true; more; {
		if err := r.Work(ctx, func() {
			var piece []api.Flow
			piece, more = next()
			for i := range piece {
				p.add(&piece[i], was, first, dt)
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *published) add(f *api.Flow, was map[flowKey]uint64, first bool, dt float64) {
	if f.Outside == "" || f.Container == "" || f.Direction != api.FlowIn || len(p.bytes) >= maxFlows {
		return
	}
	key, n := flowKey{f.Proto, f.Address, f.PeerAddress}, f.SentBytes+f.ReceivedBytes
	p.bytes[key] = n
	before, seen := was[key]
	if n < before { // another flow between the same ends
		before, seen = 0, false
	}
	if first || dt <= 0 || n == before || !seen && f.Age > dt+1 {
		return
	}
	port := f.Outside[strings.LastIndexByte(f.Outside, ':')+1:]
	p.rates[f.Container+" "+f.Proto+" "+port] += float64(n-before) / dt
}
