// Package bare begins processes of this program that have no rights: another user's, without capabilities,
// and none to be had. All that they can reach is what they are given, as descriptors.
//
// It knows nothing of what such a process does (control/relay, control/resolver).
package bare
