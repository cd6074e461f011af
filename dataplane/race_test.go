package dataplane

// UnderRace is set when the race detector is on.
var UnderRace bool
