package model

import (
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Quota is how many flows an endpoint may hold and begin each second: 0 is the
// data path's default, -1 no limit (RFC 6888 REQ-4).
type Quota struct{ Flows, Rate int }

func checkQuota(j api.Connect) (q Quota, err error) {
	q = Quota{j.MaxFlows, j.FlowRate}
	for _, l := range []struct {
		what string
		n    int
	}{{"flows", q.Flows}, {"flows a second", q.Rate}} {
		if l.n < -1 || l.n > 1<<30 {
			return q, Invalidf("limit of %d %s: use 1 or more, 0 for the default or -1 for none", l.n, l.what)
		}
	}
	return q, nil
}

// QuotaOf reads the quota of a record.
func QuotaOf(rec *state.Endpoint) Quota { return Quota{rec.MaxFlows, rec.FlowRate} }

// Keep writes q into a record.
func (q Quota) Keep(rec *state.Endpoint) { rec.MaxFlows, rec.FlowRate = q.Flows, q.Rate }

// Compile lets a burst be as long as a second's flows.
func (q Quota) Compile() conntrack.Quota {
	return conntrack.Quota{Flows: q.Flows, Rate: q.Rate, Burst: q.Rate}
}
