// Package rig builds the network that scenarios run on, once for each system
// that is measured: two containers, their host and the world outside, in
// namespaces of their own. Only what connects the containers differs between
// the systems: the kernel bridge, the bridge with the NAT that Docker sets up,
// vswitch, and programs that do a part of its work where they are installed.
// Those run in the rig's namespaces with directories of their own; no service of
// the machine is used.
//
// The package sends no load and knows no scenario.
package rig
