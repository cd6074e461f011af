//go:build race

package dataplane

// The race detector makes everything ten times slower and finds nothing in tests
// of one goroutine: those that are long are shortened.
func init() { UnderRace = true }
