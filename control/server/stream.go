package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
)

// Stream is something that goes on. One reader.
type Stream[T any] interface {
	// Next waits for more. An empty list is the end; the error is ctx's, or says
	// that the daemon ends.
	Next(context.Context) ([]T, error)
	Close()
}

// lines writes a stream as JSON, an object a line, until it or the client ends.
func lines[T any](s *server, w http.ResponseWriter, r *http.Request, open func() (Stream[T], error)) {
	release, err := s.readers.Take(readers.From(r.Context()), readers.Streams, 1)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer release()
	st, err := open()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer st.Close()
	ctl := http.NewResponseController(w)
	ctl.SetReadDeadline(time.Time{}) // ReadTimeout would end the request in the middle
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return // it would go on for nobody
	}
	// The header goes out at once: it tells the client that the stream runs.
	if ctl.Flush() != nil {
		return
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for {
		list, err := st.Next(r.Context())
		if err != nil || len(list) == 0 {
			return
		}
		buf.Reset()
		for i := range list {
			if err := enc.Encode(&list[i]); err != nil {
				s.log.Error("stream", "path", r.URL.Path, "err", err)
				return
			}
		}
		if _, err := w.Write(buf.Bytes()); err != nil {
			return
		}
		if ctl.Flush() != nil {
			return
		}
	}
}

// events answers GET /v1/events?since=SEQ|TIME&follow=false.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	lines(s, w, r, func() (Stream[api.Event], error) {
		q, err := eventQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return s.Backend.Events(r.Context(), q)
	})
}

// known refuses a parameter that would be ignored, and so select more than was meant.
func known(v url.Values, keys ...string) error {
	for key := range v {
		if !slices.Contains(keys, key) {
			use := "there is none here"
			if len(keys) > 0 {
				use = "use " + strings.Join(keys, " or ")
			}
			return fmt.Errorf("%w: query %q: %s", api.ErrInvalid, key, use)
		}
	}
	return nil
}

func eventQuery(v url.Values) (q api.EventQuery, err error) {
	if err := known(v, "since", "follow", "name"); err != nil {
		return q, err
	}
	if q.Once, err = once(v); err != nil {
		return q, err
	}
	q.Container = v.Get("name")
	since := v.Get("since")
	if since == "" {
		return q, nil
	}
	if n, err := strconv.ParseUint(since, 10, 64); err == nil {
		q.Since = &n
		return q, nil
	}
	if q.SinceTime, err = time.Parse(time.RFC3339Nano, since); err != nil {
		return q, fmt.Errorf("%w: since %q is neither the number of an event nor a time like 2006-01-02T15:04:05Z", api.ErrInvalid, since)
	}
	return q, nil
}

// once reads follow=false.
func once(v url.Values) (bool, error) {
	switch follow := v.Get("follow"); follow {
	case "", "true":
		return false, nil
	case "false":
		return true, nil
	default:
		return false, fmt.Errorf("%w: follow %q: use true or false", api.ErrInvalid, follow)
	}
}

// flows answers GET /v1/flows?name=web&limit=20.
func (s *server) flows(ctx context.Context, r *http.Request) (Rows[api.Flow], error) {
	q, err := flowQuery(r.URL.Query(), "limit")
	if err != nil {
		return nil, err
	}
	return s.Backend.Flows(ctx, q)
}

// flowQuery reads which flows are wanted.
func flowQuery(v url.Values, more string) (q api.FlowQuery, err error) {
	if err := known(v, "name", "state", "proto", "peer", "port", "direction", more); err != nil {
		return q, err
	}
	q = api.FlowQuery{Container: v.Get("name"), State: v.Get("state"), Proto: v.Get("proto"), Peer: v.Get("peer"), Direction: v.Get("direction")}
	if text := v.Get("port"); text != "" {
		if q.Port, err = strconv.Atoi(text); err != nil || q.Port < 1 || q.Port > 65535 {
			return q, fmt.Errorf("%w: port %q: must be a number from 1 to 65535", api.ErrInvalid, text)
		}
	}
	switch begins := v.Get("begins"); begins {
	case "", "false":
	case "true":
		q.Begins = true
	default:
		return q, fmt.Errorf("%w: begins %q: use true or false", api.ErrInvalid, begins)
	}
	q.Limit, err = limitOf(v)
	return q, err
}

// nat answers GET /v1/nat?name=web&limit=10.
func (s *server) nat(ctx context.Context, r *http.Request) (Rows[api.NATEntry], error) {
	name, limit, err := selection(r)
	if err != nil {
		return nil, err
	}
	return s.Backend.NAT(ctx, api.NATQuery{Container: name, Limit: limit})
}

// selection reads which rows of a table are wanted, and how many.
func selection(r *http.Request) (name string, limit int, err error) {
	v := r.URL.Query()
	if err := known(v, "name", "limit"); err != nil {
		return "", 0, err
	}
	limit, err = limitOf(v)
	return v.Get("name"), limit, err
}

// limitOf reads how many rows are wanted.
func limitOf(v url.Values) (int, error) {
	text := v.Get("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: limit %q is no number", api.ErrInvalid, text)
	}
	return int(n), nil
}

// flowLog answers GET /v1/flows/log?name=web&begins=true.
func (s *server) flowLog(w http.ResponseWriter, r *http.Request) {
	lines(s, w, r, func() (Stream[api.Flow], error) {
		q, err := flowQuery(r.URL.Query(), "begins")
		if err != nil {
			return nil, err
		}
		return s.Backend.FlowLog(r.Context(), q)
	})
}
