package switchtest

import "encoding/binary"

// often is after how many frames an identification may come again.
const often = 10_000

// identified is from whom and to whom of which protocol a packet is that may be cut, and its
// identification.
type identified struct {
	way   [9]byte
	value uint16
}

// unique says whether no packet of b that may be cut has the identification of another one by
// the same way: packets of several containers leave with one address. Those that keep the
// address of their sender keep its identification, too. Fragments share theirs.
func (w *Twins) unique(frame []byte, got map[string][][]byte) bool {
	if !isIPv4(frame) {
		return true
	}
	for _, list := range got {
		for _, b := range list {
			if !isIPv4(b) || binary.BigEndian.Uint16(b[20:]) != 0 || string(b[26:30]) == string(frame[26:30]) {
				continue
			}
			id := identified{value: binary.BigEndian.Uint16(b[18:])}
			copy(id.way[:], b[26:34])
			id.way[8] = b[23]
			if last, ok := w.numbered[id]; ok && w.Frames-last < often {
				return false
			}
			w.numbered[id] = w.Frames
		}
	}
	return true
}
