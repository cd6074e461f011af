package main

import (
	"fmt"
	"io"
	"strings"
)

// write prints the table and returns its summary, one line for each group.
func write(w io.Writer, rows rowList, res results) (summary string) {
	fmt.Fprint(w, `# Conformance

Written by `+"`make conformance`"+` from the tests; do not edit. A row's test carries its ID in its name. Rows N are
about NAT (RFC 4787, 5382, 5508, 6888, 7857, 5961, 1191, 8201), L about the layer 2 switch and the seal of the host, C about
vulnerabilities that Docker, CNI plugins, slirp, Open vSwitch, VPP and others have had, S about what a container, a station
of the LAN or a user of the host tries, F about faults of the process, the disk and the configuration. The columns Linux (nf_conntrack, nf_nat, bridge), VPP (NAT44-ED), OVS (userspace
conntrack), Docker and Cilium say what those do where it is known, with default settings.

`)
	fmt.Fprint(w, "| rows | concern this switch | pass | share |\n|---|---:|---:|---:|\n")
	for _, g := range []struct {
		name string
		in   func(*row) bool
	}{
		{"MUST", func(r *row) bool { return r.level == "MUST" }},
		{"N", func(r *row) bool { return r.id[0] == 'N' }},
		{"L", func(r *row) bool { return r.id[0] == 'L' }},
		{"C", func(r *row) bool { return r.id[0] == 'C' }},
		{"S", func(r *row) bool { return r.id[0] == 'S' }},
		{"F", func(r *row) bool { return r.id[0] == 'F' }},
		{"all", func(*row) bool { return true }},
	} {
		n, pass := 0, 0
		for _, r := range rows {
			if !g.in(r) || r.result(res) == notApplicable {
				continue
			}
			n++
			if r.result(res) == "pass" {
				pass++
			}
		}
		line := fmt.Sprintf("| %s | %d | %d | %.0f %% |\n", g.name, n, pass, percent(pass, n))
		fmt.Fprint(w, line)
		summary += line
	}
	for _, p := range parts {
		fmt.Fprintf(w, "\n## %s\n\n| row | level | requirement | result | tests | %s |\n|---|---|---|---|---|%s\n", p.title, strings.Join(p.peers, " | "), strings.Repeat("---|", len(p.peers)))
		for _, r := range rows {
			if r.id[0] == p.letter {
				fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", r.id, r.level, r.text, r.verdict(res), r.links(), strings.Join(r.others, " | "))
			}
		}
	}
	return summary
}

// percent rounds down: 100 is all.
func percent(part, all int) float64 {
	if all == 0 {
		return 100
	}
	return float64(part * 100 / all)
}

// result is that of the worst test of a row. A reason stands above its tests: they
// hold what there is of the row.
func (r *row) result(res results) string {
	if r.why != "" {
		return r.why
	}
	if len(r.tests) == 0 {
		return "no test"
	}
	worst := ""
	for _, t := range r.tests {
		got := res[[2]string{t.dir, t.name}]
		if got == "" {
			return "not run"
		}
		if rank(got) > rank(worst) {
			worst = got
		}
	}
	return worst
}

func (r *row) verdict(res results) string {
	v := r.result(res)
	if r.reason != "" {
		v += ": " + r.reason
	}
	return v
}

// links name the tests of a row, each with its file.
func (r *row) links() string {
	var list []string
	for _, t := range r.tests {
		list = append(list, fmt.Sprintf("[%s](../%s)", t.name, t.file))
	}
	return strings.Join(list, " ")
}
