package reserve

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// portSet is a set of ports.
type portSet [1024]uint64

func (s *portSet) add(first, last uint16) {
	for w := int(first >> 6); w <= int(last>>6); w++ {
		s[w] |= mask(w, first, last)
	}
}

func (s *portSet) remove(first, last uint16) {
	for w := int(first >> 6); w <= int(last>>6); w++ {
		s[w] &^= mask(w, first, last)
	}
}

// mask has the bits of word w that lie in [first, last].
func mask(w int, first, last uint16) uint64 {
	m := ^uint64(0)
	if w == int(first>>6) {
		m &= ^uint64(0) << (first & 63)
	}
	if w == int(last>>6) {
		m &= ^uint64(0) >> (63 - last&63)
	}
	return m
}

func (s *portSet) has(port uint16) bool { return s[port>>6]&(1<<(port&63)) != 0 }

func (s *portSet) union(o *portSet) {
	for w := range s {
		s[w] |= o[w]
	}
}

func (s *portSet) subtract(o *portSet) {
	for w := range s {
		s[w] &^= o[w]
	}
}

func (s *portSet) intersect(o *portSet) {
	for w := range s {
		s[w] &= o[w]
	}
}

// next returns the first port from which on membership is in, or 65536.
func (s *portSet) next(from int, in bool) int {
	for from < 65536 {
		word := s[from>>6]
		if !in {
			word = ^word
		}
		if word >>= from & 63; word != 0 {
			return from + bits.TrailingZeros64(word)
		}
		from = from&^63 + 64
	}
	return 65536
}

func (s *portSet) ranges() []Range {
	var list []Range
	for first := s.next(0, true); first < 65536; {
		end := s.next(first, false)
		list = append(list, Range{uint16(first), uint16(end - 1)})
		first = s.next(end, true)
	}
	return list
}

// String is the form of ip_local_reserved_ports: "80,8000-8080", or "".
func (s *portSet) String() string {
	var b strings.Builder
	for _, r := range s.ranges() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(r.First)))
		if r.Last > r.First {
			b.WriteString("-" + strconv.Itoa(int(r.Last)))
		}
	}
	return b.String()
}

// parsePortSet reads the form of ip_local_reserved_ports.
func parsePortSet(text string) (*portSet, error) {
	s := &portSet{}
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port range %q: %w", part, err)
		}
		last, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port range %q: %w", part, err)
		}
		if first > last {
			return nil, fmt.Errorf("port range %q ends before it begins", part)
		}
		s.add(uint16(first), uint16(last))
	}
	return s, nil
}
