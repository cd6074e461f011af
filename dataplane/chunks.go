package dataplane

// chunkSize is how much of the memory for kept frames is taken at a time.
const chunkSize = 512

// chunks is memory for copies of frames that outlive their turn. Each lies in a list of
// chunks, named by its first. It is touched when it is first used. Not safe for concurrent
// use.
type chunks struct {
	mem   []byte
	next  []int32 // of a frame, or of the free ones, -1: none
	free  int32   // that were used before, -1: none
	fresh int32   // the first that never was
	left  int     // free and fresh ones
}

func newChunks(n int) *chunks {
	return &chunks{mem: make([]byte, n*chunkSize), next: make([]int32, n), free: -1, left: n}
}

// chunksOf is how many a frame of n bytes takes.
func chunksOf(n int) int { return (n + chunkSize - 1) / chunkSize }

// keep copies b, which is not empty, and returns its first chunk, or -1 when there is no
// room.
func (c *chunks) keep(b []byte) int32 {
	if chunksOf(len(b)) > c.left {
		return -1
	}
	first, last := int32(-1), int32(-1)
	for len(b) > 0 {
		i := c.take()
		b = b[copy(c.chunk(i), b):]
		if last < 0 {
			first = i
		} else {
			c.next[last] = i
		}
		last = i
	}
	c.next[last] = -1
	return first
}

func (c *chunks) chunk(i int32) []byte { return c.mem[int(i)*chunkSize : int(i+1)*chunkSize] }

func (c *chunks) take() int32 {
	c.left--
	if i := c.free; i >= 0 {
		c.free = c.next[i]
		return i
	}
	c.fresh++
	return c.fresh - 1
}

// read fills out with what was kept.
func (c *chunks) read(first int32, out []byte) {
	for len(out) > 0 {
		out = out[copy(out, c.chunk(first)):]
		first = c.next[first]
	}
}

// release frees the chunks of a frame.
func (c *chunks) release(first int32) {
	last, n := first, 1
	for ; c.next[last] >= 0; n++ {
		last = c.next[last]
	}
	c.next[last], c.free = c.free, first
	c.left += n
}
