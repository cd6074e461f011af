package header

import "testing"

func TestNoAllocs(t *testing.T) {
	whole := shapeNamed(t, "tcp6-hop-by-hop")
	failed := shapeNamed(t, "unreachable4-tcp4")
	out := make([]byte, 0, MaxICMPErrorLen)
	var l, q Layers
	if n := testing.AllocsPerRun(100, func() {
		Parse(whole, &l)
		DecrementTTL(whole, &l)
		SetMACs(whole, macA, macB)
		Rewrite(whole, &l, l.Tuple.Reverse(), false)
		FinishChecksum(whole, int(l.L4), 16)
		if AppendICMPError(out, whole, &l, macA, l.Tuple.Dst, 2, 0, 1280) == nil {
			t.Fatal("no ICMP error")
		}
		Parse(failed, &l)
		ParseQuoted(failed, &l, &q)
		RewriteError(failed, &l, &q, l.Tuple.Dst, l.Tuple.Src, q.Tuple.Reverse())
	}); n != 0 {
		t.Errorf("%v allocations for each frame, want 0", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"tcp4", "tcp6", "udp4", "echo4", "arp", "tcp6-eight-extensions", "unreachable4-tcp4"} {
		b.Run(name, func(b *testing.B) {
			f := shapeNamed(b, name)
			var l Layers
			for b.Loop() {
				Parse(f, &l)
			}
		})
	}
}

func BenchmarkRewrite(b *testing.B) {
	for _, name := range []string{"tcp4", "tcp6", "udp4", "echo4"} {
		for _, partial := range []bool{false, true} {
			kind := "/finished"
			if partial {
				kind = "/partial"
			}
			b.Run(name+kind, func(b *testing.B) {
				f := shapeNamed(b, name)
				var l Layers
				Parse(f, &l)
				a, z := l.Tuple, l.Tuple
				z.Src, z.SrcPort = z.Dst, 61000
				for b.Loop() {
					Rewrite(f, &l, z, partial)
					Rewrite(f, &l, a, partial)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/rewrite")
			})
		}
	}
}

func BenchmarkRewriteError(b *testing.B) {
	f := shapeNamed(b, "unreachable4-tcp4")
	var l, q Layers
	Parse(f, &l)
	ParseQuoted(f, &l, &q)
	for b.Loop() {
		RewriteError(f, &l, &q, l.Tuple.Dst, l.Tuple.Src, q.Tuple.Reverse())
	}
}
