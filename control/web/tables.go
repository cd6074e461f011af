package web

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
)

const (
	// maxRows is how many rows one answer has. A table of 100,000 flows is searched
	// and sorted here; a browser that got all of it would stand still.
	maxRows = 500
	// fresh is how long a table that was read serves every viewer.
	fresh = 900 * time.Millisecond
)

// page is a part of a table.
type page struct {
	Total   int `json:"total"`   // rows of the table
	Matched int `json:"matched"` // rows that have the words in them
	Rows    any `json:"rows"`    // those asked for
}

// tables answers GET /page/table/NAME?q=WORDS&sort=FIELD&desc=1&offset=N&limit=N.
// A row matches when each of the words is in one of its texts or numbers.
type tables map[string]func(context.Context, query) (page, error)

func newTables(b server.Backend) tables {
	return tables{
		"flows": tableOf(func(ctx context.Context) ([]api.Flow, error) { return b.Flows(ctx, api.FlowQuery{}) }),
		"fdb":   tableOf[api.FDBEntry](b.FDB),
		"nat":   tableOf(func(ctx context.Context) ([]api.NATEntry, error) { return b.NAT(ctx, api.NATQuery{}) }),
	}
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

// ServeHTTP implements http.Handler.
func (t tables) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	read := t[r.PathValue("table")]
	if read == nil {
		refuse(w, http.StatusNotFound, "there is no table "+strconv.Quote(r.PathValue("table")))
		return
	}
	p, err := read(r.Context(), parseQuery(r))
	if err != nil {
		refuse(w, api.Status(err), err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p) // a client that has gone away is no concern
}

// tableOf reads rows at most once in fresh.
func tableOf[T any](read func(context.Context) ([]T, error)) func(context.Context, query) (page, error) {
	var (
		mu   sync.Mutex
		rows []T // replaced, never changed
		at   time.Time
	)
	fields := fieldsOf[T]()
	return func(ctx context.Context, q query) (page, error) {
		mu.Lock()
		if time.Since(at) > fresh {
			r, err := read(ctx)
			if err != nil {
				mu.Unlock()
				return page{}, err
			}
			rows, at = r, time.Now()
		}
		list := rows
		mu.Unlock()
		return selectRows(list, fields, q), nil
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

func selectRows[T any](rows []T, fields []field, q query) page {
	p := page{Total: len(rows)}
	found := make([]int, 0, min(len(rows), 1024))
	for i := range rows {
		if matches(reflect.ValueOf(&rows[i]).Elem(), fields, q.words) {
			found = append(found, i)
		}
	}
	p.Matched = len(found)
	if i := slices.IndexFunc(fields, func(f field) bool { return f.name == q.sort }); i >= 0 {
		at := fields[i].index
		slices.SortStableFunc(found, func(a, b int) int {
			n := compare(reflect.ValueOf(&rows[a]).Elem().Field(at), reflect.ValueOf(&rows[b]).Elem().Field(at))
			if q.desc {
				return -n
			}
			return n
		})
	}
	out := []T{}
	for _, i := range found[min(q.offset, len(found)):min(q.offset+q.limit, len(found))] {
		out = append(out, rows[i])
	}
	p.Rows = out
	return p
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
		return cmp.Compare(fmtBool(a.Bool()), fmtBool(b.Bool()))
	}
	return 0
}

func fmtBool(b bool) int {
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
