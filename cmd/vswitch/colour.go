package main

import (
	"bytes"
	"io"
	"os"
)

// What colours mean here, as a terminal takes them (ECMA-48, SGR).
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// coloured reports whether w is a terminal whose user has not said otherwise
// (https://no-color.org).
func coloured(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(f)
}

// painted is text in a colour on a terminal. Text is our own.
func painted(w io.Writer, colour, text string) string {
	if !coloured(w) {
		return text
	}
	return colour + text + plain
}

// paint makes the first line of a table bold, and colours words of other lines that are
// a whole cell; all is aligned already.
func paint(text []byte, colours map[string]string) []byte {
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	for word, colour := range colours {
		rest = bytes.ReplaceAll(rest, []byte("  "+word+"  "), []byte("  "+colour+word+plain+"  "))
	}
	return append([]byte(bold+string(head)+plain+"\n"), rest...)
}
