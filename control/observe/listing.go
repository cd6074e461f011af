package observe

import (
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// listing says how flows are shown as a list.
type listing[T any] struct {
	limit  int // 0: all
	order  func(a, b *conntrack.Info) int
	wanted func(*directory.Directory, *conntrack.Info) bool
	view   func(*directory.Directory, *conntrack.Info) T
}

// rows are the wanted flows of a table, which each reads page by page. With a limit up to server.MaxSorted
// the first of them in order come. Otherwise all come, or as many as the limit says: in order
// as long as they are few, and from then on as they are found. Pages that show nothing are empty pieces, so that a reader with a large
// table has a pause between two of them.
func (l listing[T]) rows(now func() *directory.Directory, each func(func([]conntrack.Info) bool)) server.Rows[T] {
	return func(yield func([]T) bool) {
		keep, sorts, left := sortedRows, l.limit > 0 && l.limit <= server.MaxSorted, l.limit
		if sorts {
			keep = l.limit
		}
		head := &first[conntrack.Info]{n: keep, order: l.order}
		piece := make([]T, 0, pageSize)
		show := func(list []conntrack.Info) bool {
			names := now()
			piece = piece[:0]
			if l.limit > 0 {
				list = list[:min(left, len(list))]
				left -= len(list)
			}
			for i := range list {
				piece = append(piece, l.view(names, &list[i]))
			}
			return yield(piece) && (l.limit == 0 || left > 0)
		}
		inPieces := func(list []conntrack.Info) bool {
			for len(list) > pageSize {
				if !show(list[:pageSize]) {
					return false
				}
				list = list[pageSize:]
			}
			return show(list)
		}
		more := false // than are sorted
		going := true
		found := make([]conntrack.Info, 0, pageSize)
		each(func(page []conntrack.Info) bool {
			names := now()
			found = found[:0]
			for i := range page {
				if l.wanted(names, &page[i]) {
					found = append(found, page[i])
				}
			}
			if !sorts && !more && head.Len()+len(found) > keep {
				if more, going = true, inPieces(head.list); !going {
					return false
				}
				head = nil
			}
			if more {
				going = show(found)
				return going
			}
			for i := range found {
				head.add(&found[i])
			}
			going = yield(piece[:0])
			return going
		})
		if going && !more {
			inPieces(head.sorted())
		}
	}
}
