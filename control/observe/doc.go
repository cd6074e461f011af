// Package observe watches the switch for people: flows and their log, tables, counters, the
// last drops, and captures. It asks the data path by the interface Switch and the directory
// of names, holds no lock of the controller, and changes nothing of what it sees.
package observe
