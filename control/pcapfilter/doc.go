// Package pcapfilter compiles the filter language of tcpdump and Wireshark,
// pcap-filter(7), to classic BPF for Ethernet. It is a leaf: text goes in,
// instructions come out, and names are asked of the caller.
//
// The offsets are those of the wire form of a frame, with its VLAN tags in
// place, so that "vlan" moves them as it does when a file is read.
//
// "gateway" takes names of the switch, whose MAC addresses it knows. What a capture
// of this switch cannot mean is refused with the reason, as are link types other
// than Ethernet.
package pcapfilter
