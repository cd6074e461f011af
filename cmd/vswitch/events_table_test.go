package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The tables of docs/operations.md begin with these words in their first cell.
const (
	carriedTable = "carried: "
	youngTable   = "young: "
	begunTable   = "new: "

	// What the relay leads to containers the kernel does not carry.
	ofLocalhost = carriedTable + "localhost"
)

const (
	eventsDoc     = "../../docs/operations.md"
	eventsHeading = "## What becomes of which connection\n"
	// unseen marks a cell that no test shows.
	unseen = " †"
)

// eventTables are the cells by event and kind.
type eventTables map[string]map[string]string

// eachCell calls do for the cells of the tables and puts its results in their place.
func eachCell(t *testing.T, do func(event, kind, cell string) string) {
	t.Helper()
	text, err := os.ReadFile(eventsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, section, ok := strings.Cut(string(text), eventsHeading)
	if !ok {
		t.Fatalf("%s has no section %s", eventsDoc, eventsHeading)
	}
	section, after, _ := strings.Cut(section, "\n## ")
	lines := strings.Split(section, "\n")
	var columns []string // nil: no table of connections
	for i, line := range lines {
		if !strings.HasPrefix(line, "|") {
			columns = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case columns == nil && slices.Contains([]string{carriedTable, youngTable, begunTable}, strings.ToLower(cells[0])+": "):
			columns = cells
			for i := range columns[1:] {
				columns[i+1] = strings.ToLower(cells[0]) + ": " + columns[i+1]
			}
		case columns == nil || strings.HasPrefix(cells[0], "---"):
		default:
			if len(cells) != len(columns) {
				t.Fatalf("%s: row of %s has %d cells, want %d", eventsDoc, cells[0], len(cells), len(columns))
			}
			for c := range cells[1:] {
				cells[c+1] = do(cells[0], columns[c+1], cells[c+1])
			}
			lines[i] = "| " + strings.Join(cells, " | ") + " |"
		}
	}
	if *update {
		if err := os.WriteFile(eventsDoc, []byte(before+eventsHeading+strings.Join(lines, "\n")+"\n## "+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readEventTables(t *testing.T) eventTables {
	t.Helper()
	all := make(eventTables)
	eachCell(t, func(event, kind, cell string) string {
		if all[event] == nil {
			all[event] = make(map[string]string)
		}
		all[event][kind] = cell
		return cell
	})
	return all
}
