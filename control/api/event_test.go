package api

import (
	"os"
	"regexp"
	"testing"
)

// EventTypes has every type, so that a filter takes it.
func TestEventTypes(t *testing.T) {
	b, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^\tEvent[A-Z]\w*\s*= "`).FindAll(b, -1)
	if len(all) < 30 || len(all) != len(EventTypes) {
		t.Errorf("%d types, and %d in EventTypes", len(all), len(EventTypes))
	}
}
