package web

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
)

func fetchTable(t *testing.T, b *fake, query string) (total, matched int, rows []api.Flow) {
	t.Helper()
	w := ask(handlerOf(b, ""), "GET", "/page/table/flows?"+query, loop)
	var p struct {
		Total, Matched int
		Rows           []api.Flow
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
		t.Fatalf("%s: status %d, %v: %s", query, w.Code, err, w.Body)
	}
	return p.Total, p.Matched, p.Rows
}

func TestTableIsSearchedAndCut(t *testing.T) {
	f := newFake(10, 100_000)
	total, matched, rows := fetchTable(t, f, "sort=rate&desc=1")
	if total != 100_000 || matched != total || len(rows) != 100 || rows[0].Rate != 99_999 {
		t.Errorf("total %d, matched %d, %d rows, the first at %v", total, matched, len(rows), rows[0].Rate)
	}
	_, matched, rows = fetchTable(t, f, "q="+url.QueryEscape("C7 203.0.113.17:443")+"&limit=5")
	if len(rows) != 5 || matched != 400 {
		t.Errorf("matched %d, %d rows, want 400 and 5", matched, len(rows))
	}
	for _, r := range rows {
		if r.Container != "c7" || r.PeerAddress != "203.0.113.17:443" {
			t.Errorf("%+v does not match", r)
		}
	}
	if _, matched, rows = fetchTable(t, f, "q=nosuch"); matched != 0 || rows == nil || len(rows) != 0 {
		t.Errorf("nothing matches: %d, %v", matched, rows)
	}
	if _, _, rows = fetchTable(t, f, "limit=99999"); len(rows) != maxRows {
		t.Errorf("%d rows, want %d at most", len(rows), maxRows)
	}
	if _, _, rows = fetchTable(t, f, "offset=9999&limit=10&sort=rate"); len(rows) != 10 || rows[9].Rate != 10_008 {
		t.Errorf("the last part that is shown: %+v", rows)
	}
	for _, q := range []string{"offset=10000", "offset=99999&sort=rate"} {
		if w := ask(handlerOf(f, ""), "GET", "/page/table/flows?"+q, loop); w.Code != 400 || !strings.Contains(w.Body.String(), "search for words") {
			t.Errorf("%s: status %d, %s", q, w.Code, w.Body)
		}
	}
	for _, q := range []string{"offset=-1", "offset=x", "sort=nosuch", "limit=-3", "offset=1073741824&q=c7+203.0.113.17:443"} {
		fetchTable(t, f, q)
	}
	if w := ask(handlerOf(f, ""), "GET", "/page/table/nosuch", loop); w.Code != 404 {
		t.Errorf("another table: status %d", w.Code)
	}
}

// counting counts readings.
type counting struct {
	*fake
	reads *int
}

func (c *counting) Flows(ctx context.Context, q api.FlowQuery) (server.Rows[api.Flow], error) {
	*c.reads++
	return c.fake.Flows(ctx, q)
}

func TestTablesAreReadOnceForMany(t *testing.T) {
	reads := 0
	f := newFake(1, 1)
	b := &counting{fake: f, reads: &reads}
	ts := newTables(b, nil)
	for range 20 {
		r := httptest.NewRequest("GET", "/page/table/flows", nil)
		r.SetPathValue("table", "flows")
		ts.ServeHTTP(httptest.NewRecorder(), r)
	}
	if reads > 3 {
		t.Errorf("20 requests at once read the flows %d times", reads)
	}
}

func TestNaturally(t *testing.T) {
	want := []string{"", "10.0.0.9", "10.0.0.10", "10.0.0.10:80", "web", "web2", "web02x", "web10", "web10a"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortStableFunc(got, naturally)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkTable(b *testing.B) {
	all, err := newFake(500, 100_000).Flows(b.Context(), api.FlowQuery{})
	if err != nil {
		b.Fatal(err)
	}
	rows := rowsOf(slices.Concat(slices.Collect(all)...))
	fields := fieldsOf[api.Flow]()
	for name, q := range map[string]query{
		"all":    {sort: "rate", desc: true, limit: 100},
		"search": {words: []string{"c7", "443"}, sort: "peer_address", limit: 100},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := selectRows(b.Context(), nil, rows, fields, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
