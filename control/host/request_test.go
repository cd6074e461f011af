package host

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// BenchmarkAsk is a question to the kernel that has a short answer: a start has several for
// each container.
func BenchmarkAsk(b *testing.B) {
	h, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Link("lo"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRefusal: an error has the kernel's number and its words; the next request is answered, and
// after the end of the conn none is.
func TestRefusal(t *testing.T) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	err = c.do(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, clsact(1), attrString(1, "no such qdisc"))
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "qdisc kind is unknown") {
		t.Errorf("%v, want the kernel's words", err)
	}
	if l, err := c.link("lo", 0); err != nil || l.Index != 1 {
		t.Errorf("%+v, %v after a refusal", l, err)
	}
	c.close()
	if _, err := c.link("lo", 0); err == nil {
		t.Error("answered after the end")
	}
}

// TestAttrs: of attributes of which one is malformed none is told.
func TestAttrs(t *testing.T) {
	whole := []byte{5, 0, 1, 0, 'a', 0, 0, 0, 6, 0, 2, 0x80, 'b', 'c'}
	for _, c := range []struct {
		msg  []byte
		want string
		bad  bool
	}{
		{whole, "1a2bc", false}, {whole[:8], "1a", false}, {whole[:5], "1a", false}, {nil, "", false},
		{whole[:13], "", true}, {[]byte{3, 0, 1, 0}, "", true}, {[]byte{4, 0, 7, 0, 1}, "7", false},
	} {
		var got strings.Builder
		err := attrs(c.msg, 0, func(typ uint16, v []byte) { got.WriteByte('0' + byte(typ)); got.Write(v) })
		if got.String() != c.want || (err != nil) != c.bad {
			t.Errorf("%v: %q, %v", c.msg, got.String(), err)
		}
	}
	if attrs(whole, 20, nil) == nil {
		t.Error("a header that is not there is no error")
	}
}

// TestReadOnce: until its end links are as they were when it began, or when they were read ahead
// for it.
func TestReadOnce(t *testing.T) {
	n := labtest.New(t, "host")
	inHost(t, n, func(h *Host) {
		has := func(name string) bool {
			t.Helper()
			links, err := h.Links()
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(links, func(l Link) bool { return l.Name == name })
		}
		for _, dev := range []string{"d0", "d1"} {
			if dev == "d1" {
				h.ReadAhead()
				h.reads.Wait()
				run(t, n, "ip", "link", "add", "d2", "type", "bridge")
			}
			end := h.ReadOnce()
			if !has("lo") || has(dev) || has("d2") {
				t.Error("a link is missing, or there is one too many")
			}
			run(t, n, "ip", "link", "add", dev, "type", "bridge")
			if has(dev) {
				t.Error("read again before the end")
			}
			if end(); !has(dev) {
				t.Error("not read again after the end")
			}
		}
	})
}
