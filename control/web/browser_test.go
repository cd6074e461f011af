//go:build !race

// The race detector has nothing to say about a browser: what it asks for is asked
// for without one in the other tests.

package web_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// tab is a page in a headless Chromium that runs in a namespace of the lab: it
// reaches what is there and nothing else. It is steered through a pipe.
type tab struct {
	t     *testing.T
	ctx   context.Context
	files string // where downloads go

	failing func() // says more about a failure, nil: nothing

	mu       sync.Mutex
	console  []string // warnings, errors and exceptions
	requests []*request
}

// request is what the page asked for and what came of it.
type request struct {
	id         network.RequestID
	url, ended string
}

func (r *request) String() string { return r.url + " " + r.ended }

// networkChanged is how Chromium ends what it loads when an interface of the namespace comes
// or goes, or an address of one is no longer tentative. It tells the console.
const networkChanged = "net::ERR_NETWORK_CHANGED"

func openTab(t *testing.T, ns *netlab.NS) *tab {
	t.Helper()
	labtest.NeedProgram(t, "chromium")
	dir, err := os.MkdirTemp("", "chromium") // it may write to the end: what is left of it is no failure
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		// A name that somebody has made to point here.
		chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			in := ns.Command(cmd.Path, cmd.Args[1:]...)
			cmd.Path, cmd.Args = in.Path, in.Args
		}),
	)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, leave := chromedp.NewContext(alloc)
	t.Cleanup(leave)
	b := &tab{t: t, ctx: ctx, files: t.TempDir()}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	err = chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *network.EventRequestWillBeSent:
			b.asked(e.RequestID, e.Request.URL)
		case *network.EventResponseReceived:
			b.answered(e.RequestID, fmt.Sprint(e.Response.Status))
		case *network.EventLoadingFailed:
			b.answered(e.RequestID, e.ErrorText)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if strings.Contains(m.String(), networkChanged) {
				continue
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.console = append(b.console, m.String())
				b.mu.Unlock()
			}
		}
	}()
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	b.size(1280, 900)
	t.Cleanup(func() {
		if t.Failed() {
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Logf("console: %q\nrequests: %q", b.console, b.requests)
		}
	})
	return b
}

func (b *tab) asked(id network.RequestID, u string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, &request{id, u, "has no answer"})
}

func (b *tab) answered(id network.RequestID, with string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range slices.Backward(b.requests) {
		if r.id == id {
			r.ended = with
			return
		}
	}
}

// shows is what there is to see when something does not come.
func (b *tab) shows() string {
	page, err := evaluate[string](b, `[location.href, document.readyState, document.querySelector('#state')?.textContent, document.querySelector('dialog')?.textContent].join(' | ')`)
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.requests[max(0, len(b.requests)-40):]
	return fmt.Sprintf("the page: %q, %v\nits last requests: %q\nthe console: %q", page, err, last, b.console)
}

func (b *tab) size(w, h int64) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: w, Height: h, DeviceScaleFactor: 1, Mobile: w < 600})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) scheme(s string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(u string) {
	b.t.Helper()
	for try := 0; ; try++ {
		err := chromedp.Do(b.ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(u))
		if err == nil {
			return
		}
		if try == 5 || !strings.Contains(err.Error(), networkChanged) {
			b.t.Fatalf("open %s: %v", u, err)
		}
	}
}

// js evaluates an expression of the page; a promise is waited for.
func js[T any](b *tab, expr string) T {
	b.t.Helper()
	v, err := evaluate[T](b, expr)
	if err != nil {
		b.t.Fatalf("%s: %v", expr, err)
	}
	return v
}

func evaluate[T any](b *tab, expr string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 60*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expr, chromedp.EvalAwaitPromise))
}

// until waits for an expression to become true. A page that is just being loaded has
// nothing to evaluate it with.
func (b *tab) until(expr string) {
	b.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v, err := evaluate[bool](b, "Boolean("+expr+")")
		if v {
			return
		}
		if time.Now().After(deadline) {
			if b.failing != nil {
				b.failing()
			}
			b.t.Fatalf("it is not so: %s (%v)\n%s", expr, err, b.shows())
		}
	}
}

// typed puts a text where a person would, key by key.
func (b *tab) typed(selector, s string) {
	b.t.Helper()
	js[bool](b, fmt.Sprintf("(document.querySelector(%q).focus(), document.querySelector(%q).select(), true)", selector, selector))
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent(s)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) click(selector string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("click %s: %v", selector, err)
	}
}

// clean fails for what the console complained about, and for requests to others.
func (b *tab) clean(hosts ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.console) > 0 {
		b.t.Errorf("the console says %q", b.console)
	}
	if len(b.requests) == 0 {
		b.t.Error("no request was seen at all")
	}
	for _, r := range b.requests {
		u, err := url.Parse(r.url)
		ok := err == nil && (u.Scheme == "about" || u.Scheme == "blob" || u.Scheme == "data")
		for _, h := range hosts {
			ok = ok || err == nil && u.Host == h
		}
		if !ok {
			b.t.Errorf("the page asked for %s", r.url)
		}
	}
}

// download lets the page save a file and returns it.
func (b *tab) download(save func()) []byte {
	b.t.Helper()
	_, err := chromedp.CallBrowser(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: b.files,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	save()
	var data []byte
	eventually(b.t, "a file was saved", func() bool {
		list, _ := filepath.Glob(filepath.Join(b.files, "*.pcapng"))
		if len(list) == 0 {
			return false
		}
		if data, err = os.ReadFile(list[0]); err != nil || len(data) == 0 {
			return false
		}
		b.t.Logf("saved %s, %d bytes", filepath.Base(list[0]), len(data))
		return true
	})
	return data
}

// texts are the texts of all elements that match.
func (b *tab) texts(selector string) []string {
	b.t.Helper()
	return strings.Split(js[string](b, fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.textContent).join('\\n')", selector)), "\n")
}

// key presses one key.
func (b *tab) key(k string) error { return chromedp.Do(b.ctx, chromedp.KeyEvent(k)) }
