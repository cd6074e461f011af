package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"
)

// BenchmarkDockerRun runs containers with a published port, one after the other, and
// tells how long the daemon took for each of dockerd's calls, by its own log.
func BenchmarkDockerRun(b *testing.B) {
	l := newDockerLab(b)
	l.docker("network", "create", "-d", "vswitch", "--ipam-driver", "vswitch", "--subnet", "10.99.0.0/16", "--ipam-opt", "org.vswitch.network=bench", "-o", "org.vswitch.network=bench", "net")
	before := len(l.log.String())
	for b.Loop() {
		l.docker("run", "--rm", "--network", "net", "-p", "18081:80", "-p", "18082:81/udp", dockerImage, "true")
	}
	calls := make(map[string][]time.Duration)
	var all []time.Duration
	for _, m := range regexp.MustCompile(`msg=docker method=(\S+) took=(\S+)`).FindAllStringSubmatch(l.log.String()[before:], -1) {
		d, err := time.ParseDuration(m[2])
		if err != nil {
			b.Fatal(err)
		}
		calls[m[1]] = append(calls[m[1]], d)
		all = append(all, d)
	}
	if len(all) < b.N {
		b.Fatalf("%d calls in %d runs", len(all), b.N)
	}
	b.ReportMetric(ms(percentile(all, 50)), "ms/p50")
	b.ReportMetric(ms(percentile(all, 99)), "ms/p99")
	b.ReportMetric(ms(percentile(all, 100)), "ms/max")
	calls["all"] = all
	fmt.Printf("%-38s %5s %7s %7s %7s\n", "call (ms)", "calls", "p50", "p99", "max")
	for _, method := range slices.Sorted(maps.Keys(calls)) {
		d := calls[method]
		fmt.Printf("%-38s %5d %7.2f %7.2f %7.2f\n", method, len(d), ms(percentile(d, 50)), ms(percentile(d, 99)), ms(percentile(d, 100)))
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile is the smallest value that p of a hundred do not exceed.
func percentile(list []time.Duration, p int) time.Duration {
	slices.Sort(list)
	return list[max(0, (len(list)*p+99)/100-1)]
}
