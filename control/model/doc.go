// Package model holds what networks and containers are made of, without the controller:
// requests and their checks, the address pools of a network, published ports as they are
// written, and the numbers that the data path knows things by. It makes nothing in the
// kernel, keeps nothing on disk and takes no lock. Its errors have the kinds of
// control/api and say the way out.
package model
