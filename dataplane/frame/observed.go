//go:build !unobserved

package frame

// Observed says that the turn counts and can be captured. The benchmark builds a
// daemon without (-tags unobserved) to tell what that costs; nobody else should.
const Observed = true
