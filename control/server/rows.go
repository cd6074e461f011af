package server

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/vswitch/vswitch/control/readers"
)

// Rows are the rows of a table in pieces of some hundred at most, which are made as they are
// asked for: no table is in memory as a whole, and no lock is held from one piece to the next.
// A piece may be empty. They are read once, and what is in a piece is valid until the next.
type Rows[T any] = iter.Seq[[]T]

// tableBytes is the memory that an answer of a table takes for the rows that come first, at
// least, and rowBytes what each takes when a number of them is asked for.
const (
	tableBytes = 2 << 20
	rowBytes   = 512
)

// MaxSorted is up to which number of rows that is asked for a table is sorted to find them.
// A larger number of them comes as all rows would.
const MaxSorted = 16 << 10

// answerBytes is how much of an answer is collected before it is written.
const answerBytes = 32 << 10

// table writes rows as a JSON array, in turns with other readers. An answer that is cut short
// ends with its connection, so that nobody takes it for the whole table.
func table[T any](s *server, open func(context.Context, *http.Request) (Rows[T], error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, who := r.Context(), readers.From(r.Context())
		limit, err := limitOf(r.URL.Query())
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if limit > MaxSorted {
			limit = 0
		}
		for kind, n := range map[readers.Kind]int{readers.Answers: 1, readers.Rows: max(tableBytes, limit*rowBytes)} {
			release, err := s.readers.Take(who, kind, n)
			if err != nil {
				s.refuse(w, r, err)
				return
			}
			defer release()
		}
		rows, err := open(ctx, r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return // it would be made for nobody
		}
		next, stop := iter.Pull(rows)
		defer stop()
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		buf.WriteByte('[')
		for more, first := true, true; more; {
			var failed error
			if err := s.readers.Work(ctx, func() {
				var piece []T
				piece, more = next()
				for i := range piece {
					if !first {
						buf.WriteByte(',')
					}
					first = false
					if failed = enc.Encode(&piece[i]); failed != nil {
						s.log.Error("table", "path", r.URL.Path, "err", failed)
						return
					}
					buf.Truncate(buf.Len() - 1) // the line break
				}
			}); err != nil || failed != nil {
				panic(http.ErrAbortHandler)
			}
			if !more {
				buf.WriteString("]\n")
			}
			if buf.Len() < answerBytes && more {
				continue
			}
			if _, err := w.Write(buf.Bytes()); err != nil {
				return
			}
			buf.Reset()
		}
	}
}
