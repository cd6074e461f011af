package host

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
