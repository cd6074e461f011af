package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Words of the table. Of one that begins meanwhile they are others.
const (
	goesOn = "goes on"
	waits  = "waits"
	ends   = "ends"
	isCut  = "is cut"
)

var ofNew = map[string]string{goesOn: "begins", waits: waits, ends: "is refused", isCut: "no answer"}

// watched is a connection while something happens.
type watched struct {
	*flow
	want   []string // words, nil: whatever comes
	mark   int64    // heard when it had happened
	passes bool     // while it is in force
	again  int64    // heard when it was over
	got    string   // the word, once it is settled
}

// word is what has become of it so far.
func (w *watched) word(undone bool) string {
	after := w.moved(w.again)
	word := isCut
	switch {
	case w.Ended():
		word = ends
	case after && (w.passes || !undone):
		word = goesOn
	case after:
		word = waits
	}
	if strings.HasPrefix(w.kind, begunTable) {
		return ofNew[word]
	}
	return word
}

// moved reports whether more has been heard than was under way.
func (w *watched) moved(since int64) bool {
	if _, ticks := w.said.(ticking); ticks {
		return w.Heard() > since+2
	}
	return w.Heard() > since
}

// TestEvents makes happen what docs/operations.md has a row of, and wants what becomes of each
// connection to be what the row says. With -update it writes that.
func TestEvents(t *testing.T) {
	tables := readEventTables(t)
	l := newEventLab(t)
	seen := make(map[string]map[string][]string) // words by event and kind
	for _, e := range events {
		if tables[e.name] == nil {
			t.Errorf("%s has no row of %s", eventsDoc, e.name)
			continue
		}
		if only := os.Getenv("VSWITCH_EVENT"); only != "" && !strings.Contains(only, e.name) {
			continue
		}
		// Young connections that a slow machine lets grow old say something else: once more.
		for again := true; ; again = false {
			l.renew()
			var wrong []string
			seen[e.name], wrong = l.happens(e, tables[e.name])
			if e.restore != nil {
				e.restore(l)
			}
			for _, what := range wrong {
				if t.Log(what); !again {
					t.Fail()
				}
			}
			if len(wrong) == 0 || !again {
				break
			}
		}
		delete(tables, e.name)
	}
	eachCell(t, func(event, kind, cell string) string {
		if words := seen[event][kind]; *update && !fits(words, strings.Split(cell, " or ")) {
			return strings.Join(words, " or ")
		}
		return cell
	})
	if os.Getenv("VSWITCH_EVENT") != "" {
		return
	}
	for event, cells := range tables {
		for kind, cell := range cells {
			if !strings.HasSuffix(cell, unseen) {
				t.Errorf("%s: nothing shows that at %s %s %s", eventsDoc, event, kind, cell)
			}
		}
	}
}

func fits(words, want []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(want, w) })
}

// happens returns the words by kind, and what is otherwise than the document says.
func (l *eventLab) happens(e event, row map[string]string) (words map[string][]string, wrong []string) {
	l.t.Helper()
	const (
		silence = 2 * time.Second  // after which something is cut
		writes  = 12 * time.Second // the same while nothing is known
	)
	var all []*watched
	for _, f := range l.flows {
		w := &watched{flow: f}
		if cell := row[f.kind]; cell == "" {
			l.t.Errorf("%s has no column of %s", eventsDoc, f.kind)
		} else if !*update {
			w.want = strings.Split(cell, " or ")
		}
		all = append(all, w)
	}
	speak := func(mark func(w *watched)) {
		for _, w := range all {
			mark(w)
			w.speak()
		}
	}
	e.do(l)
	undone := e.undo != nil
	if undone {
		time.Sleep(50 * time.Millisecond) // what was under way
		speak(func(w *watched) { w.mark = w.Heard() })
		begin := time.Now()
		eventually(func() bool {
			open := false
			for _, w := range all {
				w.passes = w.moved(w.mark)
				open = open || !w.passes && !w.Ended() && len(w.want) == 1 && (w.want[0] == goesOn || w.want[0] == ofNew[goesOn])
			}
			return time.Since(begin) > e.lasts && !open
		})
		e.undo(l)
	} else {
		time.Sleep(time.Second) // until it is in force everywhere
	}
	speak(func(w *watched) { w.again = w.Heard() })
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		open, past := 0, time.Since(begin)
		for _, w := range all {
			if w.got != "" {
				continue
			}
			word := w.word(undone)
			left := word == isCut || word == ofNew[isCut]
			switch {
			case w.want == nil && (!left || past > writes), slices.Contains(w.want, word) && (!left || past > silence):
				w.got = word
			default:
				open++
			}
		}
		if open == 0 || past > 30*time.Second {
			break
		}
	}
	words = make(map[string][]string)
	for _, w := range all {
		word := cmp.Or(w.got, w.word(undone))
		w.alive = w.moved(w.again) && !w.Ended()
		if !slices.Contains(words[w.kind], word) {
			words[w.kind] = append(words[w.kind], word)
			slices.Sort(words[w.kind])
		}
		if *update {
			l.t.Logf("%s: %s, %s: %s", e.name, w.kind, w.what, word)
		} else if w.got == "" {
			wrong = append(wrong, fmt.Sprintf("%s: %s, %s: it %s, and %s says %q", e.name, w.kind, w.what, word, eventsDoc, row[w.kind]))
		}
	}
	return words, wrong
}
