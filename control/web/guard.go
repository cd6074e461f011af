package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	cookieName = "vswitch"
	// cookieAge is how long a browser that has shown the token need not do so again.
	cookieAge = 12 * time.Hour
)

// policy lets the page have what it brought along and nothing else. The scripts
// build elements and never text that is parsed as HTML, which the browser holds
// them to (require-trusted-types-for).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// guard stands in front of everything that the listener serves.
//
// A browser on this machine runs scripts of any site, and loopback is no border
// to it. What such a script can do is asked away here, in this order: a name that
// was made to point to us (DNS rebinding) stands in Host; a request across origins
// says so in Origin or Sec-Fetch-Site; nothing but reading is served; and with a
// token nobody is answered without it.
type guard struct {
	token string
	now   func() time.Time
	next  http.Handler
}

func newGuard(token string, next http.Handler) *guard {
	return &guard{token: token, now: time.Now, next: next}
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	switch {
	case !g.hostIsOurs(r):
		refuse(w, http.StatusMisdirectedRequest, "host "+strconv.Quote(r.Host)+" is not this daemon: use its address in numbers, or localhost")
	case crossOrigin(r):
		refuse(w, http.StatusForbidden, "a request from another site: open the page itself")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, r.Method+": the page only reads: use the command line or the unix socket")
	case g.token == "" || g.authorized(r):
		g.next.ServeHTTP(w, r)
	case r.URL.Path == "/" && r.URL.Query().Has("token"):
		g.login(w, r)
	case r.URL.Path == "/":
		askForToken(w, "")
	default:
		h.Set("WWW-Authenticate", `Bearer realm="vswitch"`)
		refuse(w, http.StatusUnauthorized, "no token: send Authorization: Bearer TOKEN, or open /?token=TOKEN once")
	}
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte("vswitch: " + why + "\n"))
}

// hostIsOurs reports whether the client meant this listener: the address that it
// has connected to, in numbers, or localhost on loopback. With a token, which no
// other site can have a browser send, the machine's own name is good as well.
func (g *guard) hostIsOurs(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return false
	}
	host, port := r.Host, "80"
	if h, p, err := net.SplitHostPort(r.Host); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if port != strconv.Itoa(int(at.Port())) {
		return false
	}
	addr := at.Addr().Unmap()
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap() == addr
	}
	if strings.EqualFold(host, "localhost") {
		return addr.IsLoopback()
	}
	name, err := os.Hostname()
	return err == nil && g.token != "" && strings.EqualFold(host, name)
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

func (g *guard) authorized(r *http.Request) bool {
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return g.isToken(t)
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	until, _, ok := strings.Cut(c.Value, ".")
	sec, err := strconv.ParseInt(until, 10, 64)
	if !ok || err != nil || g.now().Unix() > sec {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(c.Value), []byte(g.cookie(sec))) == 1
}

func (g *guard) isToken(t string) bool {
	// Of hashes, so that not even the length can be measured.
	a, b := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(g.token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookie is the proof that a browser has shown the token: an end and what only
// somebody with the token can compute of it. The token itself is not in it.
func (g *guard) cookie(until int64) string {
	end := strconv.FormatInt(until, 10)
	mac := hmac.New(sha256.New, []byte(g.token))
	mac.Write([]byte("vswitch page " + end))
	return end + "." + hex.EncodeToString(mac.Sum(nil))
}

// login turns a token in the address into a cookie and takes it out of the
// address, where history, bookmarks and logs would keep it.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	if !g.isToken(r.URL.Query().Get("token")) {
		askForToken(w, "This is not the token.")
		return
	}
	until := g.now().Add(cookieAge)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: g.cookie(until.Unix()), Path: "/", MaxAge: int(cookieAge / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// askForToken answers a browser that has none.
func askForToken(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("WWW-Authenticate", `Bearer realm="vswitch"`)
	w.WriteHeader(http.StatusUnauthorized)
	w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
		`<meta name="color-scheme" content="light dark"><title>vswitch</title><h1>vswitch</h1><p>` + why +
		` This page wants the token that its daemon was started with (--http-token-file).</p>` +
		`<form action="/" method="get"><label>Token <input name="token" type="password" autocomplete="off" autofocus required></label> ` +
		`<button>Open</button></form></html>`))
}
