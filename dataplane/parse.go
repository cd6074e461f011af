package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// parse finds the headers of each frame, once: no later stage looks at a byte
// whose place parse has not checked. It drops what contradicts itself, and
// frames of a port that the snapshot does not know.
func (w *worker) parse(s *Snapshot) {
	w.live = w.live[:0]
	for i := range w.batch.Frames[:w.batch.N] {
		f := &w.batch.Frames[i]
		switch {
		case s.ports[f.In] == nil:
			w.drop(f, DropNotReady)
		case !header.Parse(f.Data(), &f.Layers) || !f.Offload.Fits(&f.Layers):
			w.tellMalformed(s, f)
			w.drop(f, DropMalformed)
		default:
			w.live = append(w.live, f)
		}
	}
}
