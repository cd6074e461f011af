package observe

import (
	"container/heap"
	"slices"
)

// first keeps those n of what it is given that come first in an order; 0 keeps all.
// Of a hundred thousand flows the ten busiest are found without sorting the others.
type first[T any] struct {
	n     int
	order func(a, b *T) int
	list  []T // with n reached a heap whose root is the last in order
}

// add considers v, which it copies when it is kept.
func (f *first[T]) add(v *T) {
	switch {
	case f.n == 0:
		f.list = append(f.list, *v)
	case len(f.list) < f.n:
		f.list = append(f.list, *v)
		if len(f.list) == f.n {
			heap.Init(f)
		}
	case f.order(v, &f.list[0]) < 0:
		f.list[0] = *v
		heap.Fix(f, 0)
	}
}

// sorted is what was kept, in order.
func (f *first[T]) sorted() []T {
	slices.SortFunc(f.list, func(a, b T) int { return f.order(&a, &b) })
	return f.list
}

// Len, Less, Swap, Push and Pop are heap.Interface.
func (f *first[T]) Len() int           { return len(f.list) }
func (f *first[T]) Less(i, j int) bool { return f.order(&f.list[i], &f.list[j]) > 0 }
func (f *first[T]) Swap(i, j int)      { f.list[i], f.list[j] = f.list[j], f.list[i] }
func (f *first[T]) Push(any)           {}
func (f *first[T]) Pop() any           { return nil }
