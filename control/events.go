package control

import (
	"context"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/events"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
)

// Events begins to read the events.
func (c *Controller) Events(ctx context.Context, q api.EventQuery) (server.Stream[api.Event], error) {
	return c.events.Events(ctx, q)
}

// noticeWait is how long followSwitch waits at once. The end of the switch ends the wait.
const noticeWait = time.Minute

// followSwitch hears what the switch has to tell, until that is closed.
func (c *Controller) followSwitch() {
	defer close(c.heard)
	pressure := events.PressureLog(c.log, c.events)
	for {
		switch n := c.sw.Next(noticeWait); n.Kind {
		case dataplane.NoticeClosed:
			return
		case dataplane.NoticeGone:
			c.portGone(n.Port)
		case dataplane.NoticeWanted:
			c.underlay.Resolve(n.Hop.Uplink, n.Hop.Addr.NetIP())
		case dataplane.NoticeWay:
			c.sw.SetWay(n, c.underlay.Way(n.Way))
		case dataplane.NoticePressure:
			pressure(n.Pressure)
		case dataplane.NoticeEvent:
			if n.Lost > 0 {
				c.log.Warn("port events lost: more came than could be told", "count", n.Lost)
			}
			level, args := c.events.Switch(n.Event, c.dir.Now())
			c.log.Log(c.ctx, level, "port event", args...)
		}
	}
}
