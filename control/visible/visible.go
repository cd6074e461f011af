// Package visible writes text of strangers so that a terminal, a log and a reader
// take it for what it is: names of processes, labels, whatever came from outside of
// this program. It is the one place that knows how.
package visible

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns s as one line on which nothing acts on a terminal or reorders what
// stands around it. What is not a letter, mark, number, punctuation, symbol or the
// plain blank becomes an escape as Go writes it: controls of both sets (C0 and C1,
// ECMA-48), line breaks, formats such as the bidirectional overrides, bytes that are
// no UTF-8. Printable text is returned as it is, without an allocation.
func Text(s string) string {
	at := strings.IndexFunc(s, hidden)
	if at < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !hidden(r):
			b.WriteString(s[:n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// Line returns a message of several lines as one: a semicolon stands between them. It
// is for errors that were joined, and for those of libraries.
func Line(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return Text(strings.Join(lines, "; "))
}

// JSON returns a JSON text of the same value in which nothing acts on a terminal.
// encoding/json leaves C1 controls, DEL and formats as they are, which stand in
// strings only and have an escape there (RFC 8259 7). The line breaks between values
// stay.
func JSON(text []byte) []byte {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r != '\n' && hidden(r) {
			return escapeJSON(text, i)
		}
		i += n
	}
	return text
}

// escapeJSON is JSON for a text with something to escape behind its first bytes.
func escapeJSON(text []byte, clean int) []byte {
	out := append([]byte(nil), text[:clean]...)
	for rest := text[clean:]; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || !hidden(r):
			out = append(out, rest[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[n:]
	}
	return out
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
