package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var (
	two    = []string{"bridge", "blue"}
	ports  = []string{"8080:80/tcp"}
	attach = Container{Whole: true, Bound: true, Endpoints: two, Ports: ports}
)

// deltas are all changes there are, with their plans as a reader of the log sees them.
var deltas = []struct {
	name string
	plan Plan
	want string
}{
	{"attach", attach.Plan(), "bind, enter, address bridge, address blue, hold 8080:80/tcp, " +
		"cable bridge, plug bridge, cable blue, plug blue, store, claim 8080:80/tcp, show"},
	{"attach to no network", Container{Whole: true, Bound: true}.Plan(), "bind, enter, store, show"},
	{"detach", Container{Whole: true, Bound: true, Endpoints: two, Ports: ports, Gone: true}.Plan(),
		"store, hide, unclaim 8080:80/tcp, unplug blue, cut blue, unplug bridge, cut bridge, release 8080:80/tcp, free blue, free bridge, leave, unbind"},
	{"detach, unattended", Container{Whole: true, Endpoints: two[:1], Gone: true, Unattended: true}.Plan(),
		"store, hide, drop bridge, free bridge, leave"},
	{"attach more", Container{Endpoints: two[1:], Ports: ports, Relabel: true}.Plan(),
		"address blue, hold 8080:80/tcp, cable blue, plug blue, label, store, claim 8080:80/tcp, show, reclaim"},
	{"labels alone", Container{Relabel: true}.Plan(), "label, store"},
	{"rename", Container{Rename: true, Relabel: true}.Plan(), "rename, label, store"},
	{"connect", Container{Endpoints: two[1:], Reroute: true}.Plan(), "address blue, cable blue, plug blue, store, show, reclaim, reroute"},
	{"disconnect", Container{Endpoints: two[1:], Gone: true, Reroute: true}.Plan(),
		"store, hide, unplug blue, cut blue, free blue, reroute, reclaim"},
	{"release an interface and its port", Container{Endpoints: two[1:], Ports: ports, Gone: true}.Plan(),
		"store, hide, unclaim 8080:80/tcp, unplug blue, cut blue, release 8080:80/tcp, free blue, reclaim"},
	{"publish", Container{Ports: ports}.Plan(), "hold 8080:80/tcp, store, claim 8080:80/tcp, show"},
	{"unpublish", Container{Ports: ports, Gone: true}.Plan(), "store, hide, unclaim 8080:80/tcp, release 8080:80/tcp"},
	{"restore", Container{Whole: true, Bound: true, Endpoints: two, Found: true}.Plan(),
		"bind, enter, address bridge, address blue, adopt bridge, plug bridge, adopt blue, plug blue, ready"},
	{"restore a port", Container{Ports: ports, Found: true}.Plan(), "hold 8080:80/tcp, claim 8080:80/tcp, ready"},
	{"create a network", Network{}.Plan(), "enter, number, device, route, carry, plug, store, show"},
	{"remove a network", Network{Gone: true}.Plan(), "shut, store, hide, unplug, unroute, remove, unnumber, leave"},
	{"restore a network", Network{Found: true}.Plan(), "enter, number, device, route, carry, plug, ready"},
	{"update a network", Network{Amend: true}.Plan(), "store, amend"},
}

func TestPlans(t *testing.T) {
	for _, d := range deltas {
		if got := d.plan.String(); got != d.want {
			t.Errorf("%s:\n got %s\nwant %s", d.name, got, d.want)
		}
	}
}

// promises are pairs of steps of which the first is never after the second.
var promises = []struct {
	first  Kind
	later  []Kind
	reason string
}{
	{Store, []Kind{Claim, Show, Amend, Hide, Unclaim, Unplug, Drop, Cut, Remove}, "a full disk changes nothing that passes frames"},
	{Claim, []Kind{Show, Ready}, "the host's stack answers nothing that is ours"},
	{Hide, []Kind{Unclaim, Unplug, Drop, Cut, Release, Free, Remove}, "no snapshot names what is gone"},
	{Unready, []Kind{Unplug, Cut, Free}, "nor the next one"},
	{Plug, []Kind{Show, Ready}, "nor one what is not there yet"},
	{Hold, []Kind{Claim}, "a claim is on a port that is held"},
	{Unclaim, []Kind{Release}, "the same backwards"},
	{Cut, []Kind{Free, Unnumber}, "another has the address when its last owner has no link"},
	{Drop, []Kind{Free}, "no worker sends what is meant for the next owner"},
	{Remove, []Kind{Unnumber}, "a number is of one device"},
	{Free, []Kind{Leave}, "who has an address is in the table"},
	{Enter, []Kind{Address, Hold, Cable, Device}, "the same forwards"},
}

// TestOrder: what every plan promises, also one that failed on its way back.
func TestOrder(t *testing.T) {
	for _, d := range deltas {
		plans := []Plan{d.plan}
		for n := range d.plan {
			plans = append(plans, d.plan[:n].Inverse())
		}
		for _, p := range plans {
			for i, s := range p {
				for _, o := range p[:i] {
					for _, promise := range promises {
						if s.Kind == promise.first && slices.Contains(promise.later, o.Kind) {
							t.Errorf("%s: %s after %s, but %s: %s", d.name, s, o, promise.reason, p)
						}
					}
					if s.Kind == Unplug && o.Kind == Cut && s.N == o.N {
						t.Errorf("%s: %s after %s, but no worker reads a link that is gone: %s", d.name, s, o, p)
					}
				}
			}
		}
	}
}

func TestInverses(t *testing.T) {
	for k := Kind(1); k < numKinds; k++ {
		if kinds[k].text == "" {
			t.Errorf("kind %d has no text", k)
		}
		back := kinds[k].inverse
		if again := kinds[back].inverse; back != 0 && again != k && k != Adopt {
			t.Errorf("%s is taken back by %s, and that by %s", k, back, again)
		}
	}
	if Kind(0).String() != "kind 0" || numKinds.String() != fmt.Sprint("kind ", uint8(numKinds)) {
		t.Error("a kind that is none has a name")
	}
}

// maker does steps, and records what has been made.
type maker struct {
	made []string
	log  []string
	fail map[string]error
}

func (w *maker) do(s Step) error {
	if err := w.fail[s.String()]; err != nil {
		return err
	}
	w.log = append(w.log, s.String())
	if back, ok := s.Inverse(); ok {
		if i := slices.Index(w.made, back.String()); i >= 0 {
			w.made = slices.Delete(w.made, i, i+1)
			return nil
		}
		if i := slices.Index(w.made, "adopt "+s.Of); i >= 0 && s.Kind == Cut {
			w.made = slices.Delete(w.made, i, i+1)
			return nil
		}
		w.made = append(w.made, s.String())
	}
	return nil
}

// TestApply lets every step of every plan fail, and after it every step back.
func TestApply(t *testing.T) {
	boom, bang := errors.New("boom"), errors.New("bang")
	for _, d := range deltas {
		if slices.ContainsFunc(d.plan, func(s Step) bool { return s.Kind == Hide }) {
			continue // a loss
		}
		for i, s := range d.plan {
			w := &maker{fail: map[string]error{s.String(): boom}}
			err, undone := d.plan.Apply(w.do)
			if err != boom || undone != nil || len(w.made) != 0 {
				t.Errorf("%s: %s fails: %v, %v, left %v", d.name, s, err, undone, w.made)
			}
			want := append(texts(d.plan[:i]), texts(d.plan[:i].Inverse())...)
			if !slices.Equal(w.log, want) {
				t.Errorf("%s: %s fails: did %v, want %v", d.name, s, w.log, want)
			}
			for _, b := range d.plan[:i].Inverse() {
				w := &maker{fail: map[string]error{s.String(): boom, b.String(): bang}}
				err, undone := d.plan.Apply(w.do)
				if err != boom || !errors.Is(undone, bang) || !strings.HasPrefix(undone.Error(), b.String()+": ") {
					t.Errorf("%s: %s and %s fail: %v, %v", d.name, s, b, err, undone)
				}
				if len(w.made) != 1 {
					t.Errorf("%s: %s and %s fail: left %v", d.name, s, b, w.made)
				}
			}
		}
		w := new(maker)
		if err, undone := d.plan.Apply(w.do); err != nil || undone != nil || !slices.Equal(w.log, texts(d.plan)) {
			t.Errorf("%s: %v, %v, did %v", d.name, err, undone, w.log)
		}
	}
}

func TestLose(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		plan  Plan
		fails string
		force bool
		err   string
		did   string
	}{
		{Container{Ports: ports, Gone: true}.Plan(), "hide", false, "hide: boom", "store, unclaim 8080:80/tcp, release 8080:80/tcp"},
		{Container{Ports: ports, Gone: true}.Plan(), "store", false, "boom", ""},
		{Container{Ports: ports, Gone: true}.Plan(), "store", true, "store: boom", "hide, unclaim 8080:80/tcp, release 8080:80/tcp"},
		{Network{Gone: true}.Plan(), "store", false, "boom", "shut, reopen"},
		{Network{Gone: true}.Plan(), "shut", false, "boom", ""},
	} {
		w := &maker{fail: map[string]error{tc.fails: boom}}
		err, undone := tc.plan.Lose(w.do, tc.force)
		if !errors.Is(err, boom) || err.Error() != tc.err || undone != nil {
			t.Errorf("%s: %s fails: %v, %v, want %s", tc.plan, tc.fails, err, undone, tc.err)
		}
		if got := strings.Join(w.log, ", "); got != tc.did {
			t.Errorf("%s: %s fails: did %s, want %s", tc.plan, tc.fails, got, tc.did)
		}
	}
}

func texts(p Plan) (list []string) {
	for _, s := range p {
		list = append(list, s.String())
	}
	return list
}
