package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsOfAName(t *testing.T) {
	for name, want := range map[string][]string{
		"TestN10Hairpin":         {"N-10"},
		"TestN01N03Mapping":      {"N-01", "N-03"},
		"TestL100X":              {"L-100"},
		"TestC23C29C37NoGateway": {"C-23", "C-29", "C-37"},
		"TestS74S75Events":       {"S-74", "S-75"},
		"TestN1Short":            nil,
		"TestN10":                nil,
		"TestNothing":            nil,
		"TestX10Y":               nil,
		"BenchmarkN10Hairpin":    nil,
	} {
		if d := cmp.Diff(want, rowsOf(name)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestResults(t *testing.T) {
	res, err := readResults(strings.NewReader(`{"Action":"run","Package":"github.com/vswitch/vswitch/dataplane","Test":"TestN01A"}
{"Action":"pass","Package":"github.com/vswitch/vswitch/dataplane","Test":"TestN01A"}
{"Action":"fail","Package":"github.com/vswitch/vswitch/dataplane","Test":"TestN01A/sub"}
{"Action":"fail","Package":"github.com/vswitch/vswitch/control","Test":"TestN01B"}
{"Action":"skip","Package":"github.com/vswitch/vswitch/control","Test":"TestN02C"}
{"Action":"fail","Package":"github.com/vswitch/vswitch/control"}
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := test{name: "TestN01A", dir: "dataplane"}, test{name: "TestN01B", dir: "control"}, test{name: "TestN02C", dir: "control"}
	for _, tc := range []struct {
		row  row
		want string
	}{
		{row{tests: []test{a}}, "pass"},
		{row{tests: []test{a, b}}, "fail"},
		{row{tests: []test{a, c}}, "skip"},
		{row{tests: []test{a, {name: "TestN01Z", dir: "dataplane"}}}, "not run"},
		{row{}, "no test"},
		{row{why: notApplicable, reason: "x"}, notApplicable},
		{row{why: open, reason: "x", tests: []test{a}}, open},
	} {
		if got := tc.row.result(res); got != tc.want {
			t.Errorf("%+v: got %s, want %s", tc.row, got, tc.want)
		}
	}
}
