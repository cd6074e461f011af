//go:build !race

package labtest

// UnderRace reports whether the race detector is on.
const UnderRace = false
