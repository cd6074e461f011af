// Command conformance writes docs/conformance.md: which requirement on a switch
// and NAT of this kind is held by which test, and how that test ended.
//
// A row is a line of rows.tsv. A test carries the rows it holds in its name:
// TestN10Hairpin holds N-10, TestN01N03Mapping holds N-01 and N-03. A row
// without a test has a reason in a file of docs/conformance.d, or else the tests
// of this package fail, as they do when the table no longer names the tests that
// there are.
//
// It judges no test: what a row's test proves is read in the test.
package main
