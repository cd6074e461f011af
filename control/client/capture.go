package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CaptureConfig selects what Capture sees.
type CaptureConfig struct {
	// Targets are containers by name, "container:NAME", "network:NAME", "uplink",
	// "uplink:IF" or "all"; none is all.
	Targets []string
	// Filter is an expression of pcap-filter(7), which may name containers and
	// networks; "" takes all.
	Filter string
	// Points are rx, tx, drop, prenat, postnat; none is rx and tx.
	Points []string
	// SnapLen is the number of bytes kept of each frame, 0 is all.
	SnapLen int
	// Segment cuts super-frames to the size they have on a wire.
	Segment bool
	// Wait begins though a target does not exist yet.
	Wait bool
	// Last, unless 0, asks for the frames of the time until now that the daemon's
	// recorder has. The capture ends behind them.
	Last time.Duration
	// Started, when not nil, is called once the capture is running: frames from
	// here on are in it.
	Started func()
}

func (cfg *CaptureConfig) query() string {
	q := url.Values{}
	for name, list := range map[string][]string{"target": cfg.Targets, "point": cfg.Points} {
		for _, v := range list {
			q.Add(name, v)
		}
	}
	set := func(name, v string, given bool) {
		if given {
			q.Set(name, v)
		}
	}
	set("filter", cfg.Filter, cfg.Filter != "")
	set("snaplen", strconv.Itoa(cfg.SnapLen), cfg.SnapLen > 0)
	set("segment", "true", cfg.Segment)
	set("wait", "true", cfg.Wait)
	set("last", cfg.Last.String(), cfg.Last > 0)
	return q.Encode()
}

// lingerCapture is how long a capture goes on behind its end, for the packets
// that are on their way; endCapture how long the stream then may take.
const (
	lingerCapture = 50 * time.Millisecond
	endCapture    = 5 * time.Second
)

// Capture copies frames to w as pcapng until ctx ends, which is no error: the
// stream then ends with what was captured until there, and its statistics.
func (c *Client) Capture(ctx context.Context, cfg CaptureConfig, w io.Writer) error {
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lingerCapture+endCapture, cancel) })()
	resp, err := c.do(reading, http.MethodGet, "/v1/capture?"+cfg.query(), nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	id := resp.Header.Get("Vswitch-Capture")
	defer context.AfterFunc(ctx, func() {
		time.Sleep(lingerCapture)
		if err := c.EndCapture(reading, id); err != nil {
			cancel() // nobody ends it for us
		}
	})()
	if cfg.Started != nil {
		cfg.Started()
	}
	_, err = io.Copy(w, resp.Body)
	if ctx.Err() != nil && reading.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

// EndCapture ends a capture by its number: its stream ends with what was captured
// until then. Capture does so when its ctx ends.
func (c *Client) EndCapture(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/capture/"+url.PathEscape(id), nil, nil)
}
