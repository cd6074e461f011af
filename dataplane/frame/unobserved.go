//go:build unobserved

package frame

const Observed = false
