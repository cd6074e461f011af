package journal

import (
	"fmt"
	"strings"
	"testing"
)

// Somebody of whom there is a lot to tell takes nobody else's place, and a reader who comes
// late is told what is missing.
func TestJournalIsShared(t *testing.T) {
	j := New[string](16, 1, func(s string) string { return s[:1] })
	add := func(s string) { j.Add(func(n uint64) string { return fmt.Sprint(s, n) }) }
	add("b")
	for range 1000 {
		add("a")
	}
	add("b")
	add("c")
	list, lost, _ := j.From(1).Read(t.Context(), false)
	if got := strings.Join(list, " "); len(list) != 16 || list[0] != "b1" || !strings.HasSuffix(got, "a1001 b1002 c1003") || lost != 1003-16 {
		t.Errorf("%s, %d lost", got, lost)
	}
	late, _, _ := j.After(func(s string) bool { return s != "b1002" }).Read(t.Context(), false)
	if len(late) != 2 {
		t.Errorf("after b1002: %v", late)
	}
	for i := range 1000 { // many who have one each
		add(string(rune('A' + i)))
	}
	if n := len(j.tenants); n > 16 || len(j.spare)+n != 16 || len(j.free) != 0 {
		t.Errorf("%d tenants, %d spare, %d free", n, len(j.spare), len(j.free))
	}
}

func BenchmarkAdd(b *testing.B) {
	j := New[int](16384, 1, func(n int) string { return [...]string{"a", "b", "c"}[n%3] })
	b.ReportAllocs()
	for b.Loop() {
		j.Add(func(n uint64) int { return int(n) })
	}
}
