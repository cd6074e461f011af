// Package inventory holds the networks, containers, endpoints and published ports that
// there are, with their numbers, and finds them. It makes nothing in the kernel or on disk;
// package control does, and keeps the inventory in step.
package inventory
