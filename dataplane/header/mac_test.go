package header

import "testing"

func TestParseMAC(t *testing.T) {
	want := MAC{0x02, 0x42, 0xac, 0x11, 0x00, 0xff}
	for _, s := range []string{"02:42:ac:11:00:ff", "02:42:AC:11:00:FF", "02-42-ac-11-00-ff"} {
		if got, err := ParseMAC(s); err != nil || got != want {
			t.Errorf("ParseMAC(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	if got := want.String(); got != "02:42:ac:11:00:ff" {
		t.Errorf("String() = %q", got)
	}
	for _, s := range []string{"", "02:42:ac:11:00", "02:42:ac:11:00:f", "02:42:ac:11:00:fg", "02:42-ac:11:00:ff",
		"02.42.ac.11.00.ff", "02:42:ac:11:00:ff:", "0242:ac11:00ff::::", "+2:42:ac:11:00:ff"} {
		if got, err := ParseMAC(s); err == nil || got != (MAC{}) {
			t.Errorf("ParseMAC(%q) = %v, %v, want an error", s, got, err)
		}
	}
}

func TestMACKinds(t *testing.T) {
	for _, c := range []struct {
		mac                       string
		multicast, zero, reserved bool
	}{
		{"ff:ff:ff:ff:ff:ff", true, false, false},
		{"01:00:5e:00:00:fb", true, false, false},
		{"02:00:00:00:00:01", false, false, false},
		{"00:00:00:00:00:00", false, true, false},
		{"01:80:c2:00:00:00", true, false, true},
		{"01:80:c2:00:00:0f", true, false, true},
		{"01:80:c2:00:00:10", true, false, false},
		{"01:80:c2:00:01:00", true, false, false},
		{"00:80:c2:00:00:00", false, false, false},
	} {
		m, err := ParseMAC(c.mac)
		if err != nil {
			t.Fatal(err)
		}
		if m.IsMulticast() != c.multicast || m.IsZero() != c.zero || m.IsReserved() != c.reserved {
			t.Errorf("%v: multicast %v zero %v reserved %v, want %v %v %v", m, m.IsMulticast(), m.IsZero(), m.IsReserved(),
				c.multicast, c.zero, c.reserved)
		}
	}
}
