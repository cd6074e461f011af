package web

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
)

// ask sends a request as if it had come in at local.
func ask(h http.Handler, method, target, local string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	addr, err := net.ResolveTCPAddr("tcp", local)
	if err != nil {
		panic(err)
	}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr)))
	r.Host = local
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	loop  = "127.0.0.1:9595"
	token = "0123456789abcdef0123456789abcdef"
)

// A name that somebody made to point here is not us (DNS rebinding).
func TestHostIsChecked(t *testing.T) {
	name := hostname(t)
	for _, tc := range []struct {
		local, host, token string
		want               int
	}{
		{loop, "127.0.0.1:9595", "", 200},
		{loop, "localhost:9595", "", 200},
		{loop, "LOCALHOST:9595", "", 200},
		{"[::1]:9595", "[::1]:9595", "", 200},
		{"[::1]:9595", "localhost:9595", "", 200},
		{"127.0.0.1:80", "localhost", "", 200},
		{loop, "evil.example:9595", "", 421},
		{loop, "evil.example", "", 421},
		{loop, "localhost.evil.example:9595", "", 421},
		{loop, "127.0.0.1.evil.example:9595", "", 421},
		{loop, "127.0.0.1:80", "", 421},
		{loop, "127.0.0.1", "", 421},
		{loop, "127.0.0.2:9595", "", 421},
		{loop, "[::1]:9595", "", 421},
		{loop, "0.0.0.0:9595", "", 421},
		{loop, "", "", 421},
		{loop, "[", "", 421},
		{loop, name + ":9595", "", 421},
		{"192.0.2.1:9595", "192.0.2.1:9595", token, 200},
		{"192.0.2.1:9595", name + ":9595", token, 200},
		{"192.0.2.1:9595", "localhost:9595", token, 421},
		{"192.0.2.1:9595", "evil.example:9595", token, 421},
	} {
		w := ask(handlerOf(newFake(0, 0), tc.token), "GET", "/v1/info", tc.local, "Host", tc.host, "Authorization", "Bearer "+tc.token)
		if w.Code != tc.want {
			t.Errorf("host %q at %s: status %d, want %d: %s", tc.host, tc.local, w.Code, tc.want, w.Body)
		}
	}
}

// What another site's script can have a browser send is refused.
func TestOtherOriginsAreRefused(t *testing.T) {
	h := handlerOf(newFake(0, 0), "")
	for _, tc := range []struct {
		what   string
		path   string
		header []string
		want   int
	}{
		{"curl", "/v1/info", nil, 200},
		{"the page itself", "/v1/info", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200},
		{"its own Origin", "/v1/info", []string{"Origin", "http://" + loop}, 200},
		{"fetch from another site", "/v1/info", []string{"Origin", "https://evil.example"}, 403},
		{"fetch from another port of this host", "/v1/info", []string{"Origin", "http://127.0.0.1:3000"}, 403},
		{"a sandboxed frame", "/v1/info", []string{"Origin", "null"}, 403},
		{"a file", "/v1/info", []string{"Origin", "file://"}, 403},
		{"an image", "/v1/stats", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		{"a script from another port", "/js/main.js", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}, 403},
		{"a frame", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"a link to the page", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"a link to a capture", "/v1/capture", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403},
		{"typed in", "/", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
	} {
		if w := ask(h, "GET", tc.path, loop, tc.header...); w.Code != tc.want {
			t.Errorf("%s: status %d, want %d", tc.what, w.Code, tc.want)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	h := handlerOf(newFake(0, 0), "")
	for _, path := range []string{"/", "/nosuch", "/v1/info", "/js/main.js", "/metrics", "/page/table/fdb"} {
		for _, host := range []string{loop, "evil.example"} {
			got := ask(h, "GET", path, loop, "Host", host).Header()
			for k, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
				"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			} {
				if got.Get(k) != want {
					t.Errorf("%s at %s: %s is %q, want %q", path, host, k, got.Get(k), want)
				}
			}
			csp := got.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("%s: policy %q lacks %s", path, csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
				t.Errorf("%s: policy %q is loose", path, csp)
			}
			if got.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: other origins are let in", path)
			}
		}
	}
}

// Without the token there are the page's files and, for who is on loopback, the
// metrics; and it is taken from Authorization alone.
func TestTokenIsAskedFor(t *testing.T) {
	h := handlerOf(newFake(0, 0), token)
	for _, tc := range []struct {
		what, path, local string
		header            []string
		want              int
	}{
		{"the page", "/", loop, nil, 200},
		{"a script", "/js/main.js", loop, nil, 200},
		{"nothing", "/v1/info", loop, nil, 401},
		{"a path that is not there", "/nosuch", loop, nil, 401},
		{"a directory", "/js/", loop, nil, 401},
		{"the stream", "/page/live", loop, nil, 401},
		{"a table", "/page/table/fdb", loop, nil, 401},
		{"the token", "/v1/info", loop, []string{"Authorization", "Bearer " + token}, 200},
		{"another token", "/v1/info", loop, []string{"Authorization", "Bearer " + token[:31]}, 401},
		{"no token", "/v1/info", loop, []string{"Authorization", "Bearer "}, 401},
		{"the bare token", "/v1/info", loop, []string{"Authorization", token}, 401},
		{"as a password", "/v1/info", loop, []string{"Authorization", "Basic " + token}, 401},
		{"in the query", "/v1/info?token=" + token, loop, nil, 401},
		{"in a cookie", "/v1/info", loop, []string{"Cookie", "vswitch=" + token + "; token=" + token}, 401},
		{"metrics", "/metrics", loop, nil, 200},
		{"metrics by IPv6", "/metrics", "[::1]:9595", nil, 200},
		{"metrics by the machine's name", "/metrics", loop, []string{"Host", hostname(t) + ":9595"}, 401},
		{"metrics, from another site", "/metrics", loop, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"metrics beyond loopback", "/metrics", "192.0.2.1:9595", nil, 401},
		{"metrics beyond loopback, with the token", "/metrics", "192.0.2.1:9595", []string{"Authorization", "Bearer " + token}, 200},
	} {
		w := ask(h, "GET", tc.path, tc.local, tc.header...)
		if w.Code != tc.want {
			t.Errorf("%s: status %d, want %d", tc.what, w.Code, tc.want)
		}
		if wrong := strings.Contains(w.Body.String(), "not the token"); wrong != (w.Code == 401 && slices.Contains(tc.header, "Authorization")) {
			t.Errorf("%s: %s", tc.what, w.Body)
		}
		if set := w.Header().Values("Set-Cookie"); len(set) > 0 {
			t.Errorf("%s: a cookie is set, which every port of the host gets: %q", tc.what, set)
		}
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func FuzzGuard(f *testing.F) {
	f.Add("GET", "127.0.0.1:9595", "", "vswitch=1.2", "Bearer x")
	f.Add("GET", "[::1]:9595", "http://[::1]:9595", "vswitch=9999999999.ff", "")
	f.Add("POST", "localhost", "null", "=", "Bearer "+token[:30])
	f.Fuzz(func(t *testing.T, method, host, origin, cookie, auth string) {
		passed := false
		h := newGate(token, http.NewServeMux(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }))
		r := httptest.NewRequest("GET", "/v1/info", nil)
		r.Method, r.Host = method, host
		r.Header = http.Header{"Origin": {origin}, "Cookie": {cookie}, "Authorization": {auth}}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9595})))
		h.ServeHTTP(httptest.NewRecorder(), r)
		if passed && auth != "Bearer "+token {
			t.Errorf("%q %q %q %q %q went through", method, host, origin, cookie, auth)
		}
	})
}
