// Package pcapng writes captures (draft-ietf-opsawg-pcapng): sections, and
// within one interfaces and names of addresses that come at any time, packets
// with comments, and statistics. The library for it has no name resolution
// blocks and no file that begins without an interface; it reads what this
// writes, in the tests.
package pcapng
