//go:build !race

package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

const (
	live = "document.querySelectorAll('.row:not(.host)').length === 2 && document.querySelector('#state').dataset.state === 'live'"
	// traces is where a token may have been left for others to find.
	traces = "[location.href, document.cookie, document.referrer, history.length > 0 ? JSON.stringify(history.state) : ''].join(' ')"
)

// tokenPage serves a page of two containers that asks for web.Token.
func tokenPage(t *testing.T) *netlab.NS {
	t.Helper()
	ns := labtest.New(t, "host")
	l, err := ns.Listen("tcp", pageAt)
	if err != nil {
		t.Fatal(err)
	}
	srv := web.New(web.HandlerOf(web.NewFake(2, 3), web.Token), quiet)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return ns
}

// The link is enough once: the address keeps no trace of the token, the browser does,
// and a link that somebody else has made changes nothing.
func TestPageByItsLink(t *testing.T) {
	link := api.Page{URL: "http://" + pageAt + "/", Token: web.Token}.Link()
	b := openTab(t, tokenPage(t))
	b.open(link)
	b.until(live)
	if got := js[string](b, traces); strings.Contains(got, web.Token) || !strings.HasPrefix(got, "http://"+pageAt+"/ ") {
		t.Errorf("the token left traces: %q", got)
	}
	b.open("http://" + pageAt + "/#flows")
	b.until("document.querySelectorAll('#v-flows tbody tr').length === 3")
	b.open("http://" + pageAt + "/#token=" + strings.Repeat("0", 64))
	b.until(live)
	b.open("http://" + pageAt + "/")
	b.until(live)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if at, _, _ := strings.Cut(r.url, "#"); strings.Contains(at, web.Token) {
			t.Errorf("the token was sent in the address %s", r.url)
		}
	}
}

// Who comes without is asked, and may give the token or the link.
func TestPageAsksForTheToken(t *testing.T) {
	link := api.Page{URL: "http://" + pageAt + "/", Token: web.Token}.Link()
	b := openTab(t, tokenPage(t))
	b.open("http://" + pageAt + "/#flows")
	b.until("document.querySelector('dialog')?.textContent.includes('vswitch page')")
	for _, wrong := range []string{"not the token", strings.Repeat("0", 32), "ü"} {
		b.typed("#token", wrong+kb.Enter)
		b.until("document.querySelector('dialog [role=alert]').textContent === 'This is not the token.'")
		js[bool](b, "(document.querySelector('dialog [role=alert]').textContent = '', true)")
	}
	if err := b.key(kb.Escape); err != nil {
		t.Fatal(err)
	}
	b.typed("#token", link+kb.Enter)
	b.until("!document.querySelector('dialog') && document.querySelector('#state').dataset.state === 'live'")
	b.until("document.querySelectorAll('#v-flows tbody tr').length === 3")

	other := openTab(t, tokenPage(t))
	other.open("http://" + pageAt + "/")
	other.until("document.querySelector('dialog')")
	js[bool](other, fmt.Sprintf("(location.hash = %q, true)", strings.TrimPrefix(link, "http://"+pageAt+"/")))
	other.until(live)
}

// A container is published at another port of the same name. What its page can have
// the browser do gets it neither the token nor an answer, and cannot keep the reader
// out: a cookie would have been sent to it, and could have been set by it.
func TestS71PageOfAContainerGetsNoToken(t *testing.T) {
	ns := tokenPage(t)
	shop := &shop{}
	l, err := ns.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: shop}
	go srv.Serve(l)
	defer srv.Close()

	b := openTab(t, ns)
	b.open(api.Page{URL: "http://" + pageAt + "/", Token: web.Token}.Link())
	b.until(live)
	b.open("http://127.0.0.1:8080/")
	b.until("document.title === 'done'")
	tried := js[map[string]string](b, "window.tried")
	if len(tried) < 8 {
		t.Fatalf("the shop's page tried only %v", tried)
	}
	for what, got := range tried {
		if got != "refused" {
			t.Errorf("%s: the container's page got %q", what, got)
		}
	}
	shop.mu.Lock()
	if strings.Contains(shop.got.String(), web.Token) || !strings.Contains(shop.got.String(), "Cookie: bomb0=") {
		t.Errorf("the container was sent: %.400q", shop.got.String())
	}
	shop.mu.Unlock()

	// It has filled the cookies of the host and opened the page with a token of its own.
	b.open("http://" + pageAt + "/#flows")
	b.until("document.querySelectorAll('#v-flows tbody tr').length === 3")
	if n := js[int](b, "document.cookie.length"); n < 200_000 {
		t.Errorf("only %d bytes of cookies: nothing was tried", n)
	}
}

// shop is the hostile page of a container.
type shop struct {
	mu  sync.Mutex
	got strings.Builder // heads of the requests
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	r.Header.Write(&s.got)
	fmt.Fprintln(&s.got, r.URL)
	s.mu.Unlock()
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, strings.ReplaceAll(attack, "PAGE", "http://"+pageAt))
}

// attack fills window.tried with what each attempt came to.
const attack = `<!doctype html><title>shop</title><script>
const tried = window.tried = {};
const attempt = async (what, fn) => { try { tried[what] = await fn() || 'refused'; } catch { tried[what] = 'refused'; } };
const loads = (tag, attrs) => new Promise((done) => {
  const e = Object.assign(document.createElement(tag), attrs);
  e.onload = () => done('loaded'); e.onerror = () => done('');
  document.documentElement.append(e);
});
(async () => {
  await attempt('storage', () => Object.values(localStorage).join() + Object.values(sessionStorage).join());
  await attempt('fetch', async () => (await fetch('PAGE/v1/info', { credentials: 'include' })).text());
  await attempt('fetch with a header', async () => (await fetch('PAGE/v1/info', { headers: { Authorization: 'Bearer x' } })).text());
  await attempt('fetch that reads nothing', async () => { const r = await fetch('PAGE/v1/capture?target=all', { mode: 'no-cors', credentials: 'include' }); return r.type === 'opaque' ? '' : r.type; });
  await attempt('metrics', async () => (await fetch('PAGE/metrics')).text());
  await attempt('stream', () => new Promise((done) => { const s = new EventSource('PAGE/page/live', { withCredentials: true }); s.onmessage = () => done('read'); s.onopen = () => done('open'); s.onerror = () => { s.close(); done(''); }; }));
  await attempt('script', () => loads('script', { src: 'PAGE/js/ask.js' }));
  await attempt('style', () => loads('link', { rel: 'stylesheet', href: 'PAGE/base.css' }));
  await attempt('image', () => loads('img', { src: 'PAGE/logo.svg' }));
  await attempt('frame', () => new Promise((done) => {
    const f = Object.assign(document.createElement('iframe'), { src: 'PAGE/#token=00000000000000000000000000000000' });
    f.onload = () => { try { done(f.contentWindow.localStorage.token || ''); } catch { done(''); } };
    document.documentElement.append(f);
  }));
  await attempt('cookies', async () => {
    for (let i = 0; i < 60; i++) document.cookie = 'bomb' + i + '=' + 'x'.repeat(4000) + '; path=/; max-age=99999';
    await fetch('/counted', { credentials: 'include' });
  });
  document.title = 'done';
})();
</script>`

// The address of a link that the command line prints is that of the page, and the
// token is behind # whatever it is made of.
func TestLink(t *testing.T) {
	link := api.Page{URL: "http://" + pageAt + "/", Token: "a+b&c=d#e%f 0123"}.Link()
	u, err := url.Parse(link)
	if err != nil || u.Host != pageAt || u.Path != "/" || u.RawQuery != "" {
		t.Fatalf("%q is %+v, %v", link, u, err)
	}
	if v, err := url.ParseQuery(u.EscapedFragment()); err != nil || v.Get("token") != "a+b&c=d#e%f 0123" {
		t.Errorf("%q holds %q, %v", link, v.Get("token"), err)
	}
}
