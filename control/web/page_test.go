//go:build !race

package web_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestPage drives the page of a daemon with three containers and some traffic, in
// one browser for all of it.
func TestPage(t *testing.T) {
	labtest.NeedProgram(t, "chromium")
	r := newRig(t, daemonSpec{HTTP: pageAt})
	ns := r.attach("web", "8080:80")
	serve(t, ns, "10.88.0.2:80")
	r.attach("api")
	traffic(t, r, r.attach("db"))
	b := openTab(t, r.world.Host)
	b.failing = r.goroutines
	pageTests(t, r, b)
}

var views = []string{"map", "flows", "nat", "macs", "why", "events", "capture"}

func pageTests(t *testing.T, r *rig, b *tab) {
	t.Run("loads", func(t *testing.T) {
		b.t = t
		b.open(r.page().Link())
		b.until("document.querySelectorAll('.row:not(.host)').length === 3")
		b.until("document.querySelector('#state').dataset.state === 'live'")
		names := b.texts(".row:not(.host) .row-name")
		if !slices.Equal(names, []string{"api", "db", "web"}) {
			t.Errorf("the map shows %q", names)
		}
		if ports := b.texts(".row .port"); len(ports) != 1 || !strings.HasPrefix(ports[0], "8080→80") {
			t.Errorf("the map shows ports %q", ports)
		}
	})
	t.Run("rates", func(t *testing.T) {
		b.t = t
		b.until("[...document.querySelectorAll('.row:not(.host) .line.in')].some((l) => Number(l.dataset.level) > 0)")
		b.until("document.querySelector('.uplink .in-text').textContent !== '0 bit/s'")
		b.until("document.querySelector('.port.busy .port-rate')")
		b.until("document.querySelectorAll('.drop-list li').length > 0")
	})
	t.Run("quiet", func(t *testing.T) {
		b.t = t
		// Updates move nothing: what the browser calls layout shifts.
		shift := js[float64](b, `new Promise((done) => {
			let sum = 0;
			const o = new PerformanceObserver((l) => { for (const e of l.getEntries()) sum += e.value; });
			o.observe({ type: 'layout-shift' });
			setTimeout(() => { o.disconnect(); done(sum); }, 2500);
		})`)
		if shift > 0.001 {
			t.Errorf("updates moved the page: layout shift %v", shift)
		}
	})
	t.Run("container", func(t *testing.T) {
		b.t = t
		js[bool](b, "(document.querySelectorAll('.row:not(.host)')[2].focus(), true)")
		if err := chromedp.Do(b.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatal(err)
		}
		b.until("!document.querySelector('#drawer').hidden")
		if got := js[string](b, "document.querySelector('#drawer').textContent"); !strings.Contains(got, "web") || !strings.Contains(got, "8080→80") || !strings.Contains(got, "10.88.0.2") {
			t.Errorf("the drawer says %q", got)
		}
		if err := chromedp.Do(b.ctx, chromedp.KeyEvent(kb.Escape)); err != nil {
			t.Fatal(err)
		}
		b.until("document.querySelector('#drawer').hidden")
		b.until("document.activeElement.classList.contains('row')")
	})
	t.Run("keyboard", func(t *testing.T) {
		b.t = t
		b.open("http://" + pageAt + "/#flows")
		var reached []string
		for range 14 {
			if err := chromedp.Do(b.ctx, chromedp.KeyEvent(kb.Tab)); err != nil {
				t.Fatal(err)
			}
			reached = append(reached, js[string](b, "(document.activeElement.getAttribute('href') || document.activeElement.id || document.activeElement.textContent || document.activeElement.type)"))
		}
		for _, want := range []string{"#view", "#map", "#flows", "#capture", "theme", "Pause"} {
			if !slices.Contains(reached, want) {
				t.Errorf("Tab does not reach %s, only %q", want, reached)
			}
		}
	})
	t.Run("flows", func(t *testing.T) {
		b.t = t
		for range 2 { // what both ends have closed is not there
			c, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":8080", 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		b.open("http://" + pageAt + "/#flows")
		b.until("document.querySelectorAll('#v-flows tbody tr').length > 1")
		b.typed("#v-flows input", "8080 publish")
		b.until("[...document.querySelectorAll('#v-flows tbody tr')].length > 0 && [...document.querySelectorAll('#v-flows tbody tr')].every((r) => r.textContent.includes('publish'))")
		b.typed("#v-flows input", "nosuchflow")
		b.until("document.querySelectorAll('#v-flows tbody tr').length === 0 && document.querySelector('#v-flows .empty').textContent === 'Nothing matches.'")
		b.open("http://" + pageAt + "/#macs?q=web")
		b.until("document.querySelectorAll('#v-macs tbody tr').length === 1")
		b.click("#v-macs th:nth-child(3) button")
		b.until("document.querySelector('#v-macs th:nth-child(3)').getAttribute('aria-sort') === 'ascending'")
		b.open("http://" + pageAt + "/#nat?q=web")
		b.until("document.querySelectorAll('#v-nat tbody tr').length > 0")
	})
	t.Run("why", func(t *testing.T) {
		b.t = t
		b.open("http://" + pageAt + "/#why?from=db")
		b.typed("#why-to", "web:80"+kb.Enter)
		b.until("document.querySelector('#why-answer .verdict.good')")
		if steps := b.texts("#why-answer .stage"); len(steps) < 2 {
			t.Errorf("steps %q", steps)
		}
		b.typed("#why-to", "10.77.0.1:80"+kb.Enter)
		b.until("document.querySelector('#why-answer').textContent.includes('10.77.0.1')")
		b.typed("#why-from", "nobody"+kb.Enter)
		b.until("document.querySelector('#why-answer .verdict.bad')")
		b.until("document.querySelectorAll('.last-drops li').length > 0")
	})
	t.Run("events", func(t *testing.T) {
		b.t = t
		b.open("http://" + pageAt + "/#events")
		b.until("document.querySelectorAll('.events li').length >= 4")
		if _, err := r.Publish(t.Context(), "db", []string{"5432:5432"}); err != nil {
			t.Fatal(err)
		}
		b.until("document.querySelector('.events li .type').textContent === 'publish'")
	})
	t.Run("capture", func(t *testing.T) {
		b.t = t
		b.open("http://" + pageAt + "/#capture?name=web")
		b.typed("#cap-filter", "tcp port 80"+kb.Enter)
		b.until("document.querySelectorAll('.vrow').length > 5")
		b.click("#v-capture .primary")
		b.until("document.querySelector('#cap-status').textContent.startsWith('Stopped')")
		if lines := b.texts(".vline"); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "Flags [") }) {
			t.Errorf("frames %q", lines)
		}
		b.click(".vrow")
		b.until("document.querySelector('#v-capture .detail pre').textContent.length > 100")
		data := b.download(func() { b.click("#cap-save") })
		checkPcapng(t, data)
		b.typed("#cap-filter", "tcp prot 80"+kb.Enter)
		b.until("document.querySelector('#cap-status').textContent.includes('prot')")
	})
	t.Run("decodes", func(t *testing.T) { b.t = t; decoding(t, b) })
	b.t = t
	b.mu.Lock() // the refused filter is in the console by the browser's own hand
	b.console = slices.DeleteFunc(b.console, func(s string) bool {
		return strings.Contains(s, "400 (Bad Request)") || strings.Contains(s, "404 (Not Found)")
	})
	b.mu.Unlock()
	t.Run("themes", func(t *testing.T) {
		b.t = t
		b.open("http://" + pageAt + "/")
		paint := func() string { return js[string](b, "getComputedStyle(document.body).backgroundColor") }
		b.scheme("light")
		light := paint()
		b.scheme("dark")
		if dark := paint(); dark == light {
			t.Errorf("light and dark are both %s", dark)
		}
		b.click("#theme")
		if got := js[string](b, "document.documentElement.dataset.theme"); got != "light" || paint() != light {
			t.Errorf("the button made it %s, %s", got, paint())
		}
		b.open("http://" + pageAt + "/")
		if paint() != light {
			t.Error("the choice was forgotten")
		}
		js[bool](b, "(localStorage.removeItem('theme'), true)")
	})
	t.Run("phone", func(t *testing.T) {
		b.t = t
		b.size(375, 812)
		for _, v := range views {
			b.open("http://" + pageAt + "/#" + v)
			b.until("document.querySelector('#state').dataset.state === 'live'")
			b.until("document.querySelector('#v-" + v + "').textContent.length > 10")
			if w := js[int](b, "document.documentElement.scrollWidth"); w > 375 {
				t.Errorf("%s is %d wide on a phone of 375", v, w)
			}
		}
		b.open("http://" + pageAt + "/")
		b.until("document.querySelectorAll('.row:not(.host)').length === 3")
		if w := js[int](b, "document.documentElement.scrollWidth"); w > 375 {
			t.Errorf("the map is %d wide on a phone of 375", w)
		}
		b.size(1280, 900)
	})
	b.t = t
	b.clean(pageAt)
	t.Run("another site", func(t *testing.T) { b.t = t; otherSite(t, r, b) })
}

// otherSite has a page of another origin try what a hostile one would.
func otherSite(t *testing.T, r *rig, b *tab) {
	l, err := r.world.Host.Listen("tcp", "127.0.0.1:3000")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>evil</title><p>evil</p>")
	})}
	go srv.Serve(l)
	defer srv.Close()
	b.open("http://evil.example:9595/")
	if got := js[string](b, "document.body.textContent"); !strings.Contains(got, "is not this daemon") {
		t.Errorf("a rebound name shows %q", got)
	}
	if got := js[string](b, "fetch('/v1/info').then((r) => String(r.status))"); got != "421" {
		t.Errorf("a rebound name fetches the API with status %s", got)
	}
	b.open("http://127.0.0.1:3000/")
	for what, expr := range map[string]string{
		"fetch":         `fetch('http://127.0.0.1:9595/v1/info').then((r) => 'status ' + r.status, () => 'refused')`,
		"opaque fetch":  `fetch('http://127.0.0.1:9595/v1/info', {mode: 'no-cors'}).then((r) => 'type ' + r.type, () => 'refused')`,
		"event stream":  `new Promise((done) => { const s = new EventSource('http://127.0.0.1:9595/page/live'); s.onmessage = s.onopen = () => done('open'); s.onerror = () => { s.close(); done('refused'); }; })`,
		"script":        `new Promise((done) => { const s = document.createElement('script'); s.src = 'http://127.0.0.1:9595/js/ask.js'; s.onload = () => done('loaded'); s.onerror = () => done('refused'); document.head.append(s); })`,
		"frame":         `new Promise((done) => { const f = document.createElement('iframe'); f.src = 'http://127.0.0.1:9595/'; f.onload = () => { try { done(f.contentDocument ? 'read' : 'refused'); } catch { done('refused'); } }; document.body.append(f); })`,
		"changing POST": `fetch('http://127.0.0.1:9595/v1/nat/flush', {method: 'POST', mode: 'no-cors', body: '{}'}).then((r) => 'type ' + r.type, () => 'refused')`,
	} {
		if got := js[string](b, expr); got != "refused" {
			t.Errorf("%s from another origin: %s", what, got)
		}
	}
}

// checkPcapng reads a file with our library and with Wireshark's.
func checkPcapng(t *testing.T, data []byte) {
	t.Helper()
	ng, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, _, err := ng.ReadPacketData(); err != nil {
			break
		}
	}
	if n < 5 {
		t.Errorf("%d packets in the file", n)
	}
	labtest.NeedProgram(t, "tshark")
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tshark", "-r", file, "-T", "fields", "-e", "tcp.port").Output()
	lines := strings.Fields(string(out))
	if err != nil || len(lines) != n || !strings.Contains(lines[0], "80") {
		t.Errorf("tshark reads %d packets, %v; pcapgo %d", len(lines), err, n)
	}
}

// With 500 containers and 100,000 flows the page holds no more than it shows, and
// goes on answering.
func TestPageOfMany(t *testing.T) {
	ns := labtest.New(t, "host")
	l, err := ns.Listen("tcp", "127.0.0.1:9595")
	if err != nil {
		t.Fatal(err)
	}
	srv := web.New(web.HandlerOf(web.NewFake(500, 100_000), ""), quiet)
	go srv.Serve(l)
	defer srv.Close()
	b := openTab(t, ns)
	b.open("http://" + pageAt + "/")
	b.until("document.querySelectorAll('.cell').length === 500")
	b.until("Number(document.querySelectorAll('.cell')[499].dataset.level) > 3")
	if n := js[int](b, "document.querySelectorAll('.row').length"); n > 13 {
		t.Errorf("%d rows of 500 containers", n)
	}
	b.until("[...document.querySelectorAll('.row-name')].map((n) => n.textContent).join() === 'host,c492,c493,c494,c495,c496,c497,c498,c499'")
	if n := js[int](b, "document.querySelectorAll('*').length"); n > 3000 {
		t.Errorf("the document has %d elements", n)
	}
	b.click(".cell:nth-child(8)")
	b.until("document.querySelector('#drawer').textContent.includes('c7')")
	b.open("http://" + pageAt + "/#flows")
	b.until("document.querySelectorAll('#v-flows tbody tr').length === 100")
	b.until("document.querySelector('#v-flows .view-head p').textContent.includes('of 100,000')")
	b.typed("#v-flows input", "c17 203.0.113.17:443")
	b.until("document.querySelector('#v-flows .view-head p').textContent.includes('100,000 in all')")
	b.clean(pageAt)
}

// traffic is requests from the world to web, and datagrams that are dropped.
func traffic(t *testing.T, r *rig, from *netlab.NS) {
	t.Helper()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue", Subnet: "10.99.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	c, err := from.Dial("udp", "10.99.0.9:9", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 3000 {
			get(r.world.Outside, "http://"+netlab.HostAddr+":8080/", "")
			c.Write([]byte("lost"))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done; c.Close() })
}
