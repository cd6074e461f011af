//go:build unobserved

package dataplane

const observed = false
