package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
)

const (
	// maxRows is how many rows one answer has. A table of 100,000 flows is searched
	// and sorted here; a browser that got all of it would stand still.
	maxRows = 500
	// maxSorted is how far from its beginning a sorted table is shown.
	maxSorted = 10_000
	// fresh is how long an answer serves every viewer who asks the same.
	fresh = 900 * time.Millisecond
	// maxAnswers is how many answers are kept for that.
	maxAnswers = 16
	// rowBytes is the memory of a row that is sorted, in bytes.
	rowBytes = 1024
)

// page is a part of a table.
type page struct {
	Total   int `json:"total"`   // rows of the table
	Matched int `json:"matched"` // rows that have the words in them
	Rows    any `json:"rows"`    // those asked for
}

// tables answers GET /page/table/NAME?q=WORDS&sort=FIELD&desc=1&offset=N&limit=N.
// A row matches when each of the words is part of one of its texts, is one of its whole
// numbers, or is part of the name of a field that is true.
type tables struct {
	readers *readers.Readers
	read    map[string]func(context.Context, query) (page, error)
}

func newTables(b server.Backend, r *readers.Readers) *tables {
	return &tables{r, map[string]func(context.Context, query) (page, error){
		"flows": tableOf(r, func(ctx context.Context) (server.Rows[api.Flow], error) { return b.Flows(ctx, api.FlowQuery{}) }),
		"fdb":   tableOf[api.FDBEntry](r, b.FDB),
		"nat":   tableOf(r, func(ctx context.Context) (server.Rows[api.NATEntry], error) { return b.NAT(ctx, api.NATQuery{}) }),
	}}
}

type query struct {
	words         []string
	sort          string
	desc          bool
	offset, limit int
}

func parseQuery(r *http.Request) query {
	v := r.URL.Query()
	number := func(name string, most int) int {
		n, err := strconv.Atoi(v.Get(name))
		if err != nil || n < 0 {
			return 0
		}
		return min(n, most)
	}
	q := query{
		words: strings.Fields(strings.ToLower(v.Get("q"))), sort: v.Get("sort"), desc: v.Get("desc") == "1",
		offset: number("offset", 1<<30), limit: number("limit", maxRows),
	}
	if q.limit == 0 {
		q.limit = 100
	}
	return q
}

// kept is how many rows from the first on have to be known for an answer.
func (q *query) kept() int {
	if q.offset >= maxSorted {
		return 0
	}
	return q.offset + q.limit
}

// ServeHTTP implements http.Handler.
func (t *tables) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	read := t.read[r.PathValue("table")]
	if read == nil {
		refuse(w, http.StatusNotFound, "there is no table "+strconv.Quote(r.PathValue("table")))
		return
	}
	q, who := parseQuery(r), readers.From(r.Context())
	for kind, n := range map[readers.Kind]int{readers.Answers: 1, readers.Rows: 2 * q.kept() * rowBytes} {
		release, err := t.readers.Take(who, kind, n)
		if err != nil {
			refuse(w, api.Status(err), err.Error())
			return
		}
		defer release()
	}
	if r.Method == http.MethodHead {
		return // it would be looked for for nobody
	}
	p, err := read(r.Context(), q)
	if err != nil {
		refuse(w, api.Status(err), err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p) // a client that has gone away is no concern
}

// tableOf answers queries of a table, which is read piece by piece for each: those who ask the
// same at the same time get the same answer.
func tableOf[T any](r *readers.Readers, read func(context.Context) (server.Rows[T], error)) func(context.Context, query) (page, error) {
	type answer struct {
		page page
		at   time.Time
	}
	var (
		turn    readers.Turns // who has it may use answers
		answers = make(map[string]answer)
	)
	fields := fieldsOf[T]()
	return func(ctx context.Context, q query) (page, error) {
		if err := turn.Begin(ctx); err != nil {
			return page{}, err
		}
		defer turn.End()
		for k, a := range answers {
			if time.Since(a.at) > fresh {
				delete(answers, k)
			}
		}
		key := fmt.Sprintf("%q %q %t %d %d", q.words, q.sort, q.desc, q.offset, q.limit)
		if a, ok := answers[key]; ok {
			return a.page, nil
		}
		rows, err := read(ctx)
		if err != nil {
			return page{}, err
		}
		p, err := selectRows(ctx, r, rows, fields, q)
		if err == nil && len(answers) < maxAnswers {
			answers[key] = answer{p, time.Now()}
		}
		return p, err
	}
}

// field is a column: its place in the struct by its name in JSON.
type field struct {
	name  string
	index int
}

func fieldsOf[T any]() (list []field) {
	typ := reflect.TypeFor[T]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		switch typ.Field(i).Type.Kind() {
		case reflect.String, reflect.Int, reflect.Uint64, reflect.Float64, reflect.Bool:
			list = append(list, field{name, i})
		}
	}
	return list
}

// selectRows reads a table once, and keeps of it at any time twice the rows that are needed
// to know those asked for.
func selectRows[T any](ctx context.Context, r *readers.Readers, rows server.Rows[T], fields []field, q query) (page, error) {
	var p page
	type match struct {
		row T
		n   int
	}
	order := func(a, b match) int { return cmp.Compare(a.n, b.n) }
	if i := slices.IndexFunc(fields, func(f field) bool { return f.name == q.sort }); i >= 0 {
		at := fields[i].index
		order = func(a, b match) int {
			n := compare(reflect.ValueOf(&a.row).Elem().Field(at), reflect.ValueOf(&b.row).Elem().Field(at))
			if q.desc {
				n = -n
			}
			return cmp.Or(n, cmp.Compare(a.n, b.n))
		}
	}
	keep := q.kept()
	var found []match
	cut := func() {
		slices.SortFunc(found, order)
		found = found[:min(keep, len(found))]
	}
	next, stop := iter.Pull(rows)
	defer stop()
	for more := true; more; {
		if err := r.Work(ctx, func() {
			var piece []T
			piece, more = next()
			for i := range piece {
				p.Total++
				if !matches(reflect.ValueOf(&piece[i]).Elem(), fields, q.words) {
					continue
				}
				p.Matched++
				if found = append(found, match{piece[i], p.Total}); len(found) >= 2*keep {
					cut()
				}
			}
			if !more {
				cut()
			}
		}); err != nil {
			return p, err
		}
	}
	if q.offset >= maxSorted && p.Matched > q.offset {
		return p, fmt.Errorf("%w: row %d of %d: a table is shown up to row %d: search for words, or sort it the other way round", api.ErrInvalid, q.offset, p.Matched, maxSorted)
	}
	out := []T{}
	for _, m := range found[min(q.offset, len(found)):] {
		out = append(out, m.row)
	}
	p.Rows = out
	return p, nil
}

func matches(row reflect.Value, fields []field, words []string) bool {
	for _, word := range words {
		if !slices.ContainsFunc(fields, func(f field) bool {
			v := row.Field(f.index)
			switch v.Kind() {
			case reflect.String:
				return strings.Contains(strings.ToLower(v.String()), word)
			case reflect.Int:
				return strconv.FormatInt(v.Int(), 10) == word
			case reflect.Bool:
				return v.Bool() && strings.Contains(f.name, word)
			}
			return false
		}) {
			return false
		}
	}
	return true
}

func compare(a, b reflect.Value) int {
	switch a.Kind() {
	case reflect.String:
		return naturally(a.String(), b.String())
	case reflect.Int:
		return cmp.Compare(a.Int(), b.Int())
	case reflect.Uint64:
		return cmp.Compare(a.Uint(), b.Uint())
	case reflect.Float64:
		return cmp.Compare(a.Float(), b.Float())
	case reflect.Bool:
		return cmp.Compare(btoi(a.Bool()), btoi(b.Bool()))
	}
	return 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// naturally compares texts so that runs of digits count as numbers: web2 stands
// before web10, and 10.0.0.9 before 10.0.0.10.
func naturally(a, b string) int {
	for a != "" && b != "" {
		if isDigit(a[0]) && isDigit(b[0]) {
			m, n := digits(a), digits(b)
			x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c
			}
			a, b = a[m:], b[n:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}
