// Package doctest carries out what a document tells its reader to type, and
// compares what comes of it with what the document shows. It is for tests only.
//
// A fenced block is executed by its language:
//
//	```sh        a script; it has to succeed, its output is nobody's
//	```console   "# COMMAND" lines, each followed by the output that it has
//
// Other blocks are left alone. All blocks of a document are one shell's, in the
// order they stand. A line "..." of expected output stands for any number of
// lines, "..." in a line for anything. What differs from run to run (MAC and
// interface names of the switch, identifiers, ages, the width of columns) need
// not be marked: Plain takes it out of both sides.
package doctest
