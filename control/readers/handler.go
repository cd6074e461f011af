package readers

import (
	"bytes"
	"maps"
	"net/http"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

const (
	// patience is how long a reader may take to read what is written at once, of the page and
	// of the API's socket, where a person may have stopped a pager.
	patience      = 10 * time.Second
	localPatience = 10 * time.Minute
	// largeField is what a field of a request's head may have so that it is kept.
	largeField = 4 << 10
	// longestURL is the longest path with its query.
	longestURL = 16 << 10
)

// Handler lets next answer requests of readers: a reader that does not read in time loses the
// connection, one of the page that asks too often waits, and what is large in a head is gone
// before the answer begins.
func (r *Readers) Handler(next http.Handler) http.Handler {
	rates := newRates(requestBurst, requestPause)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p := &paced{ResponseWriter: w, ctl: http.NewResponseController(w), patience: localPatience}
		who := From(req.Context())
		if who.Page {
			p.patience = patience
			for name, values := range req.Header {
				for _, v := range values {
					if len(v) > largeField {
						req.Header.Del(name)
					}
				}
			}
		}
		// The end of an answer goes out after the handler.
		p.extend()
		defer p.extend()
		if who.Page && len(req.RequestURI) > longestURL {
			p.Header().Set("Connection", "close")
			http.Error(p, "vswitch: the path and query of a request may have 16 KiB: shorten it", http.StatusRequestURITooLong)
			return
		}
		if c, ok := req.Context().Value(connKey{}).(*Conn); ok {
			c.read()
		}
		if who.Page {
			wait, ok := rates.wait(who, time.Now(), longestWait)
			if !ok {
				p.Header().Set("Retry-After", "2")
				http.Error(p, "vswitch: "+who.String()+" asks more than 100 times a second: wait 2 seconds, and then ask less often", http.StatusTooManyRequests)
				return
			}
			if wait > 0 {
				select {
				case <-time.After(wait):
				case <-req.Context().Done():
					rates.refund(who)
					panic(http.ErrAbortHandler)
				}
			}
		}
		next.ServeHTTP(p, req)
	})
}

// paced moves the deadline of the connection with each piece that is written.
type paced struct {
	http.ResponseWriter
	ctl      *http.ResponseController
	patience time.Duration
}

func (p *paced) extend() { _ = p.ctl.SetWriteDeadline(time.Now().Add(p.patience)) }

// WriteHeader implements http.ResponseWriter.
func (p *paced) WriteHeader(code int) {
	p.extend()
	p.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (p *paced) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

// FlushError is for http.ResponseController.
func (p *paced) FlushError() error {
	p.extend()
	return p.ctl.Flush()
}

// Unwrap lets http.ResponseController reach what is below.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Answer lets next answer only as many requests at a time as the bounds allow, each as a piece
// of work. Its text is sent after the piece, to however slow a reader, and counts as rows
// meanwhile. A request that ends before its turn has no answer, and the connection ends with it.
func (r *Readers) Answer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who := From(req.Context())
		refuse := func(err error) { http.Error(w, "vswitch: "+err.Error(), api.Status(err)) }
		release, err := r.Take(who, Answers, 1)
		if err != nil {
			refuse(err)
			return
		}
		defer release()
		out := &written{header: make(http.Header), code: http.StatusOK}
		made := false
		if r.Work(req.Context(), func() { next.ServeHTTP(out, req); made = true }) != nil && !made {
			panic(http.ErrAbortHandler)
		}
		give, err := r.Take(who, Rows, out.body.Len())
		if err != nil {
			refuse(err)
			return
		}
		defer give()
		maps.Copy(w.Header(), out.header)
		w.WriteHeader(out.code)
		_, _ = w.Write(out.body.Bytes())
	})
}

// written is an answer that is not sent yet.
type written struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }
func (w *written) WriteHeader(code int)        { w.code = code }
