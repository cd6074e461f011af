// Package port holds the edges of the switch: AF_PACKET sockets on the
// host-side veth ends and the uplinks, and TAP devices towards the host. A port
// moves frames in batches and never blocks; it knows nothing of networks,
// addresses or containers, neither addresses devices nor sets them up, and
// computes no checksum. The in-memory twin is in porttest.
//
// A virtio header cannot describe super-frames inside a tunnel: the kernel drops
// such a frame where it is sent. The device that makes them must not, by ethtool
// features tx-udp_tnl-segmentation, tx-udp_tnl-csum-segmentation and the like for
// GRE, IPIP and SCTP off: VXLAN within a container stands still otherwise.
//
//	Packet   packet_linux.go   AF_PACKET: open, bind, send
//	         ring_linux.go     its receive ring and the large frames beside it
//	         pool_linux.go     sockets prepared ahead of need
//	TAP      tap_linux.go      /dev/net/tun
//	Arena    arena.go          a worker's memory for large frames
//	Tx       tx_linux.go       a worker's scratch for sendmmsg
//	Poller   poll_linux.go     waits for many ports
package port
