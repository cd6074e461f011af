package control

import (
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
)

// quota is how many flows an endpoint may hold and begin each second: 0 is the
// data path's default, -1 no limit (RFC 6888 REQ-4).
type quota struct{ flows, rate int }

func checkQuota(j api.Connect) (q quota, err error) {
	q = quota{j.MaxFlows, j.FlowRate}
	for _, l := range []struct {
		what string
		n    int
	}{{"flows", q.flows}, {"flows a second", q.rate}} {
		if l.n < -1 || l.n > 1<<30 {
			return q, invalidf("limit of %d %s: use 1 or more, 0 for the default or -1 for none", l.n, l.what)
		}
	}
	return q, nil
}

func quotaOf(rec *state.Endpoint) quota { return quota{rec.MaxFlows, rec.FlowRate} }

func (q quota) keep(rec *state.Endpoint) { rec.MaxFlows, rec.FlowRate = q.flows, q.rate }

// compile lets a burst be as long as a second's flows.
func (q quota) compile() dataplane.Quota {
	return dataplane.Quota{Flows: q.flows, Rate: q.rate, Burst: q.rate}
}
