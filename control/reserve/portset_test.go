package reserve

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPortSetText(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "\n": "", "0": "0", "65535\n": "65535", "1-65535": "1-65535", "80,81,82": "80-82",
		"8080,63-64,64-127": "63-127,8080", "0-63,128": "0-63,128",
	} {
		s, err := parsePortSet(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.String(); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"a", "1-", "-1", "2-1", "65536", "1,,x"} {
		if s, err := parsePortSet(in); err == nil {
			t.Errorf("%q is accepted as %s", in, s)
		}
	}
}

// The words of a set agree with a map of ports.
func TestPortSetAgainstAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s, want := &portSet{}, map[uint16]bool{}
	for range 200 {
		first := uint16(rnd.IntN(65536))
		last := uint16(min(65535, int(first)+rnd.IntN(300)))
		in := rnd.IntN(2) == 0
		if in {
			s.add(first, last)
		} else {
			s.remove(first, last)
		}
		for p := int(first); p <= int(last); p++ {
			want[uint16(p)] = in
		}
	}
	got, expected := 0, 0
	for p := range 65536 {
		if s.has(uint16(p)) != want[uint16(p)] {
			t.Fatalf("port %d: got %v, want %v", p, s.has(uint16(p)), want[uint16(p)])
		}
		if want[uint16(p)] {
			expected++
		}
	}
	for _, r := range s.ranges() {
		got += int(r.Last) - int(r.First) + 1
	}
	if got != expected {
		t.Errorf("the ranges hold %d ports, want %d", got, expected)
	}
	again, err := parsePortSet(s.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Errorf("text and back (-want +got):\n%s", diff)
	}
}
