package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vswitch/vswitch/control/visible"
)

// Values of --format.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// What is for people goes out by sayf and table alone, what is for programs by
// printJSON and printLine: in all of them the text of strangers cannot act on the
// terminal.

// sayf is fmt.Fprintf for people: texts and errors among the arguments stay on the
// line, as package visible writes them.
func sayf(w io.Writer, format string, a ...any) error {
	for i, v := range a {
		switch v := v.(type) {
		case string:
			a[i] = visible.Text(v)
		case error:
			a[i] = visible.Line(v.Error())
		}
	}
	_, err := fmt.Fprintf(w, format, a...)
	return err
}

// printJSON writes v as the API sends it, indented.
func printJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

// printLine writes v as one line of JSON.
func printLine(w io.Writer, v any) error { return encodeJSON(w, v, "") }

func encodeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(visible.JSON(b.Bytes()))
	return err
}

// jsonLines passes lines of JSON on, each written whole, as printLine would write them.
type jsonLines struct{ w io.Writer }

// Write implements io.Writer.
func (j jsonLines) Write(line []byte) (int, error) {
	if _, err := j.w.Write(visible.JSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// listed makes an empty list of a missing one: a program that reads the JSON
// must not meet null where it iterates.
func listed[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// table collects rows and aligns them when it is flushed. Empty cells print as
// "-", so that a row always has as many fields as the header.
type table struct {
	w    io.Writer
	text *bytes.Buffer // until the header can be painted, nil: it is not
	tw   *tabwriter.Writer

	colours map[string]string // of words that are a cell
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: w}
	if len(header) > 0 && coloured(w) {
		t.text = new(bytes.Buffer)
		w = t.text
	}
	t.tw = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = cmp.Or(visible.Text(c), "-")
	}
	fmt.Fprintln(t.tw, strings.Join(cells, "\t"))
}

func (t *table) flush() error {
	err := t.tw.Flush()
	if err == nil && t.text != nil {
		_, err = t.w.Write(paint(t.text.Bytes(), t.colours))
	}
	return err
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// seconds prints an age or a remaining life at the resolution a reader acts on.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// since prints how long ago t was, "" for the zero time.
func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return seconds(max(0, now.Sub(t).Truncate(time.Second).Seconds()))
}

// pairs prints key=value words in order of their keys.
func pairs(m map[string]string) string {
	words := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	return strings.Join(words, ",")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
