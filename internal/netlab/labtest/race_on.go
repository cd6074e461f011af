//go:build race

package labtest

// UnderRace reports whether the race detector is on. It makes everything ten times slower and
// finds nothing in tests of one goroutine: those that are long are shortened.
const UnderRace = true
