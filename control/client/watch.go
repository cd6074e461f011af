package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// Flows lists the flows that q selects, those with the highest rate first.
func (c *Client) Flows(ctx context.Context, q api.FlowQuery) (out []api.Flow, err error) {
	q.Begins = false
	err = c.call(ctx, http.MethodGet, "/v1/flows"+flowSelection(q), nil, &out)
	// The daemon sorts some thousands and no more.
	slices.SortStableFunc(out, func(a, b api.Flow) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes), cmp.Compare(a.Age, b.Age))
	})
	return out, err
}

// selection is the query of so many rows of a container.
func selection(container string, limit int) string {
	v := url.Values{}
	if container != "" {
		v.Set("name", container)
	}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return query(v)
}

// flowSelection is the query of flows.
func flowSelection(q api.FlowQuery) string {
	v := url.Values{}
	for key, word := range map[string]string{"name": q.Container, "state": q.State, "proto": q.Proto, "peer": q.Peer, "direction": q.Direction} {
		if word != "" {
			v.Set(key, word)
		}
	}
	for key, n := range map[string]int{"port": q.Port, "limit": q.Limit} {
		if n > 0 {
			v.Set(key, strconv.Itoa(n))
		}
	}
	if q.Begins {
		v.Set("begins", "true")
	}
	return query(v)
}

// FlowLog calls fn for each flow that q selects as it ends, and with q.Begins as it begins, until
// ctx ends, which is no error, or fn returns one.
func (c *Client) FlowLog(ctx context.Context, q api.FlowQuery, fn func(api.Flow) error) error {
	q.Limit = 0
	return stream(ctx, c, "/v1/flows/log"+flowSelection(q), fn)
}

// Events calls fn for each event that q selects until ctx ends, which is no
// error, or fn returns one.
func (c *Client) Events(ctx context.Context, q api.EventQuery, fn func(api.Event) error) error {
	v := url.Values{}
	switch {
	case q.Since != nil:
		v.Set("since", strconv.FormatUint(*q.Since, 10))
	case !q.SinceTime.IsZero():
		v.Set("since", q.SinceTime.Format(time.RFC3339Nano))
	}
	if q.Container != "" {
		v.Set("name", q.Container)
	}
	if q.Once {
		v.Set("follow", "false")
	}
	return stream(ctx, c, "/v1/events"+query(v), fn)
}

// Why says what would become of a packet. None is sent.
func (c *Client) Why(ctx context.Context, q api.WhyQuery) (out api.Why, err error) {
	v := url.Values{"from": {q.From}, "to": {q.To}}
	return out, c.call(ctx, http.MethodGet, "/v1/why"+query(v), nil, &out)
}

// LastDrops explains the last frames that were dropped, of one container's or of
// all, the latest first.
func (c *Client) LastDrops(ctx context.Context, container string) (out []api.Drop, err error) {
	v := url.Values{}
	if container != "" {
		v.Set("name", container)
	}
	return out, c.call(ctx, http.MethodGet, "/v1/drops"+query(v), nil, &out)
}

func query(v url.Values) string {
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// stream reads an answer that is an object a line.
func stream[T any](ctx context.Context, c *Client, path string, fn func(T) error) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var v T
		err := d.Decode(&v)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("vswitch daemon at %s: stream broken: %w", c.socket, err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}
