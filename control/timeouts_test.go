package control

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

func TestTimeoutsAreCompiled(t *testing.T) {
	in := make(map[string]time.Duration)
	for name := range timeoutFields {
		in[name] = time.Duration(len(in)+1) * time.Minute
	}
	got, err := compileTimeouts(in)
	if err != nil {
		t.Fatal(err)
	}
	v, seen := reflect.ValueOf(got), map[int64]bool{}
	for i := range v.NumField() { // every field has a name of its own
		d := v.Field(i).Int()
		if d == 0 || seen[d] {
			t.Errorf("%s = %s", v.Type().Field(i).Name, time.Duration(d))
		}
		seen[d] = true
	}
	if got, err := compileTimeouts(nil); err != nil || got != (conntrack.Timeouts{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFlowOptionsAreChecked(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{MaxFlows: 1023}, "use 1024 to 10000000"},
		{Config{MaxFlows: -1}, "use 1024 to 10000000"},
		{Config{MaxFlows: 10_000_001}, "use 1024 to 10000000"},
		{Config{Timeouts: map[string]time.Duration{"tcp": time.Hour}}, "use one of icmp, other, tcp-closing"},
		{Config{Timeouts: map[string]time.Duration{"udp": time.Millisecond}}, "use a second or more"},
	} {
		if err := tc.cfg.Fill(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.want)
		}
	}
	cfg := Config{MaxFlows: 1_000_000, Timeouts: map[string]time.Duration{"udp": time.Minute}}
	if err := cfg.Fill(); err != nil || cfg.timeouts.UDP != time.Minute {
		t.Errorf("%+v, %v", cfg, err)
	}
}
