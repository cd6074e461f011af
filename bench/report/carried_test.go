package report

import "testing"

func TestCarried(t *testing.T) {
	var c Carried
	if got := c.String(); got != "" {
		t.Errorf("without a daemon: %q", got)
	}
	c.Add(100, Counts{1010, 1000}.Since(Counts{10, 10})) // 10 frames of 1000 for 100 connections
	c.Add(100, Counts{1000, 1000})
	if want := "99.5 % of frames, 95.0 % of connections"; c.String() != want {
		t.Errorf("%q, want %q", c.String(), want)
	}
	var bulk Carried
	bulk.Add(0, Counts{100, 75})
	if want := "75.0 %"; bulk.String() != want {
		t.Errorf("%q, want %q", bulk.String(), want)
	}
}
