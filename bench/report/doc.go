// Package report turns the samples of a benchmark run into figures and shows
// them: as a table on a terminal, as JSON for programs and as a Markdown
// fragment for the README.
//
// The figure that counts is the ratio of two systems measured in the same
// round, because rounds see the same machine: a neighbour that takes half a
// core takes it from both. Ratios are formed per round and their median and
// extremes are reported; the median of a quotient is not the quotient of the
// medians.
//
// The package measures nothing and knows no scenario.
package report
