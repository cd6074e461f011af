package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Profile writes a profile of the daemon to w, in the format of go tool pprof: "cpu",
// "mutex" and "block" of so many seconds from now, 0 being ten, "goroutine", "heap" and
// "allocs" as it is now; "trace" is for go tool trace.
func (c *Client) Profile(ctx context.Context, profile string, seconds int, w io.Writer) error {
	q := ""
	if seconds > 0 {
		q = "?seconds=" + strconv.Itoa(seconds)
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/debug/pprof/"+url.PathEscape(profile)+q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}
