package deptest

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
)

// TestDoorPassesValues: control asks the data path by values, descriptors and memory only,
// so that the two could be two processes. No function, channel or interface is passed, nor
// a lock that both sides take.
func TestDoorPassesValues(t *testing.T) {
	look := func(at string, typ reflect.Type) {
		for _, bad := range crossing(typ, nil) {
			t.Errorf("%s passes %s: pass a value, a descriptor or memory", at, bad)
		}
	}
	door := reflect.TypeFor[*dataplane.Switch]()
	for i := range door.NumMethod() {
		m := door.Method(i)
		for j := 1; j < m.Type.NumIn(); j++ {
			look(m.Name, m.Type.In(j))
		}
		for j := range m.Type.NumOut() {
			look(m.Name, m.Type.Out(j))
		}
	}
	for f := range reflect.TypeFor[dataplane.Config]().Fields() {
		look("Config", f.Type)
	}
	if door.NumMethod() < 10 {
		t.Errorf("the door has %d methods: this test looks at the wrong thing", door.NumMethod())
	}
}

// wholes are values that have another form on a wire, and types that cross as text.
var wholes = []reflect.Type{
	reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[time.Time](), reflect.TypeFor[error](),
}

// crossing lists what of a type cannot cross, as paths.
func crossing(t reflect.Type, above []reflect.Type) (bad []string) {
	if slices.Contains(wholes, t) || slices.Contains(above, t) {
		return nil
	}
	above = append(above, t)
	in := func(what string, e reflect.Type) {
		for _, b := range crossing(e, above) {
			bad = append(bad, what+b)
		}
	}
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.Interface, reflect.UnsafePointer, reflect.Uintptr:
		return []string{t.String()}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		in("", t.Elem())
	case reflect.Map:
		in("", t.Key())
		in("", t.Elem())
	case reflect.Struct:
		if t.PkgPath() == "sync" || t.PkgPath() == "internal/sync" {
			return []string{t.String()}
		}
		for f := range t.Fields() {
			in(fmt.Sprintf("%s.%s ", shortName(t), f.Name), f.Type)
		}
	}
	return bad
}

func shortName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return "*" + shortName(t.Elem())
	}
	if t.Name() == "" || t.PkgPath() == "" {
		return t.String()
	}
	return t.Name()
}

func TestCrossingFinds(t *testing.T) {
	type deep struct {
		M map[string][]*struct{ F func() }
	}
	for _, c := range []struct {
		typ reflect.Type
		bad bool
	}{
		{reflect.TypeFor[deep](), true}, {reflect.TypeFor[chan int](), true}, {reflect.TypeFor[any](), true},
		{reflect.TypeFor[dataplane.Switch](), true}, {reflect.TypeFor[dataplane.Stats](), false},
		{reflect.TypeFor[dataplane.SnapshotConfig](), false}, {reflect.TypeFor[error](), false},
	} {
		if got := crossing(c.typ, nil); len(got) > 0 != c.bad {
			t.Errorf("%v: %v", c.typ, got)
		}
	}
}
