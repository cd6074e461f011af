package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// policy lets the page have what it brought along and nothing else: its files, and the
// one script within index.html by its hash. The scripts build elements and never text that
// is parsed as HTML, which the browser holds them to (require-trusted-types-for).
var policy = "default-src 'none'; script-src 'self' '" + inlineHash() + "'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// gate stands in front of everything that the listener serves.
//
// A browser on this machine runs scripts of any site, and loopback is no border
// to it. What such a script can do is asked away here, in this order: a name that
// was made to point to us (DNS rebinding) stands in Host; a request across origins
// says so in Origin or Sec-Fetch-Site; nothing but reading is served; and without
// the token there are only the files of the page, which tell nothing.
//
// The token comes in Authorization alone, which a browser never sends by itself. A
// cookie would go to every port of the host (RFC 6265 8.5), so to each published
// container that the same browser visits, and each of them could set ours.
type gate struct {
	token  string
	public *http.ServeMux // the page's files
	next   http.Handler
}

func newGate(token string, public *http.ServeMux, next http.Handler) *gate {
	return &gate{token: token, public: public, next: next}
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	local, named := g.meant(r)
	switch {
	case !local.IsValid():
		refuse(w, http.StatusMisdirectedRequest, "host "+strconv.Quote(r.Host)+" is not this daemon: use its address in numbers, or localhost")
	case crossOrigin(r):
		refuse(w, http.StatusForbidden, "a request from another site: open the page itself")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, r.Method+": the page only reads: use the command line or the unix socket")
	case g.isPublic(r):
		g.public.ServeHTTP(w, r)
	case g.token == "" || g.authorized(r),
		// A scraper of this host needs no secret for counters. Whoever has the name's
		// zone could point a browser here by the name, though.
		r.URL.Path == metricsPath && local.IsLoopback() && !named:
		g.next.ServeHTTP(w, r)
	default:
		h.Set("WWW-Authenticate", `Bearer realm="vswitch"`)
		what := "no token"
		if r.Header.Get("Authorization") != "" {
			what = "not the token of this daemon"
		}
		refuse(w, http.StatusUnauthorized, what+": open the link that vswitch page prints, or send Authorization: Bearer TOKEN")
	}
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte("vswitch: " + why + "\n"))
}

func (g *gate) isPublic(r *http.Request) bool {
	_, pattern := g.public.Handler(r)
	return pattern != ""
}

// meant returns the address that the client has connected to, not valid when it
// meant another listener than this: Host is to say that address in numbers, or
// localhost on loopback. With a token, which no other site can have a browser send,
// the machine's own name is good as well; named says that it was that.
func (g *gate) meant(r *http.Request) (local netip.Addr, named bool) {
	conn, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.Addr{}, false
	}
	at, err := netip.ParseAddrPort(conn.String())
	if err != nil {
		return netip.Addr{}, false
	}
	host, port := r.Host, "80"
	if h, p, err := net.SplitHostPort(r.Host); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	addr := at.Addr().Unmap()
	ours := false
	if a, err := netip.ParseAddr(host); err == nil {
		ours = a.Unmap() == addr
	} else if strings.EqualFold(host, "localhost") {
		ours = addr.IsLoopback()
	} else {
		name, err := os.Hostname()
		named = err == nil && g.token != "" && strings.EqualFold(host, name)
		ours = named
	}
	if !ours || port != strconv.Itoa(int(at.Port())) {
		return netip.Addr{}, false
	}
	return addr, named
}

// crossOrigin reports whether another site's page made the request. What a person
// opens by a link may come from anywhere: its answer is shown, never read.
func crossOrigin(r *http.Request) bool {
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		return err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host != r.Host
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.URL.Path != "/" || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

func (g *gate) authorized(r *http.Request) bool {
	t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Of hashes, so that not even the length can be measured.
	a, b := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(g.token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
