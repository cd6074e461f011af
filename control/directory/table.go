package directory

import (
	"hash/maphash"
	"iter"
	"maps"
)

// shards bound what a change copies: at 4,000 entries some thirty of them.
const shards = 128

var seed = maphash.MakeSeed()

// table is a map that never changes; the zero value is empty.
type table[K comparable, V any] struct {
	shards *[shards]map[K]V
	n      int
}

func shardOf[K comparable](k K) uint64 { return maphash.Comparable(seed, k) % shards }

func (t table[K, V]) get(k K) (v V, ok bool) {
	if t.shards == nil {
		return v, false
	}
	v, ok = t.shards[shardOf(k)][k]
	return v, ok
}

// with is the table with another value for k.
func (t table[K, V]) with(k K, v V) table[K, V] {
	out, at := t.copied(k)
	if _, had := out.shards[at][k]; !had {
		out.n++
	}
	out.shards[at][k] = v
	return out
}

// without is the table that lacks k.
func (t table[K, V]) without(k K) table[K, V] {
	if _, had := t.get(k); !had {
		return t
	}
	out, at := t.copied(k)
	delete(out.shards[at], k)
	out.n--
	return out
}

// copied shares every shard but that of k, which its caller may change.
func (t table[K, V]) copied(k K) (out table[K, V], at uint64) {
	out = table[K, V]{new([shards]map[K]V), t.n}
	if t.shards != nil {
		*out.shards = *t.shards
	}
	at = shardOf(k)
	if out.shards[at] = maps.Clone(out.shards[at]); out.shards[at] == nil {
		out.shards[at] = make(map[K]V)
	}
	return out, at
}

// all ranges over the entries, in no order.
func (t table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.shards == nil {
			return
		}
		for _, m := range t.shards {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
