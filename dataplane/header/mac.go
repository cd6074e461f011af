package header

import (
	"encoding/hex"
	"fmt"
)

// ParseMAC reads the form aa:bb:cc:dd:ee:ff, in either case, with colons or
// hyphens.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return m, fmt.Errorf("MAC address %q: want six bytes as aa:bb:cc:dd:ee:ff", s)
	}
	sep := s[2]
	for i := range m {
		_, err := hex.Decode(m[i:i+1], []byte(s[3*i:3*i+2]))
		if err != nil || (sep != ':' && sep != '-') || (i < 5 && s[3*i+2] != sep) {
			return MAC{}, fmt.Errorf("MAC address %q: want six bytes as aa:bb:cc:dd:ee:ff", s)
		}
	}
	return m, nil
}

// String returns the form aa:bb:cc:dd:ee:ff.
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	var s [17]byte
	for i, c := range m {
		s[3*i], s[3*i+1] = digits[c>>4], digits[c&15]
		if i < 5 {
			s[3*i+2] = ':'
		}
	}
	return string(s[:])
}

// IsMulticast reports whether m is a group address; Broadcast is one.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// IsZero reports whether m is all zero, which is no station's address.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsReserved reports whether m is one of 01-80-C2-00-00-00 to -0F, which a
// bridge never forwards (IEEE 802.1Q, 8.6.3: STP, pause, LACP, LLDP).
func (m MAC) IsReserved() bool {
	return *(*[5]byte)(m[:5]) == [5]byte{0x01, 0x80, 0xc2} && m[5] <= 0x0f
}
