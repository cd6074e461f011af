package docs

import (
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/reasons"
	"github.com/vswitch/vswitch/dataplane"
)

// sharedRow is a row of "What is shared" in operations.md.
var sharedRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ?([^|]*) ?\| ?([^|]*) ?\| ?([^|]*) ?\| ?([^|]*) ?\| ?([^|]*) ?\|$`)

// number is a number as the document writes it: 16,384.
func number(n int64) string {
	s := fmt.Sprint(n)
	if n < 10_000 {
		return s
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// TestSharedBoundsAreTheCodes: each bound that operations.md names is what the code says.
func TestSharedBoundsAreTheCodes(t *testing.T) {
	var rows [][]string
	for _, s := range sections(read(t, "operations.md")) {
		if s.title == "What is shared" {
			rows = sharedRow.FindAllStringSubmatch(s.text, -1)
		}
	}
	if len(rows) < 25 {
		t.Fatalf("operations.md: %d rows of what is shared", len(rows))
	}
	row := func(of string) string {
		for _, r := range rows {
			if strings.HasPrefix(r[1], of) {
				return r[0]
			}
		}
		t.Errorf("operations.md: no row of %s", of)
		return ""
	}
	says := func(of, want string) {
		if r := row(of); r != "" && !strings.Contains(r, want) {
			t.Errorf("operations.md: the code says %s, and the row is %s", want, r)
		}
	}
	const data, relay = "dataplane", "control/relay"
	for _, c := range []struct {
		row, dir, expr string
		as             func(int64) string
		format         string
	}{
		{"tracked flows", data, "defaultConns", number, "%s"},
		{"tracked flows", "dataplane/conntrack", "quotaFlows", number, "a container %s"},
		{"masquerade ports", "dataplane/conntrack", "cappedFrom", number, "`--nat-filter eif`: %s"},
		{"learned MAC", data, "defaultFDB", number, "%s"},
		{"learned MAC", data, "maxMACs", number, "%s of a port"},
		{"memberships", "dataplane/fdb", "MaxMembers", number, "%s"},
		{"flows that the kernel", "dataplane/flowmap", "MaxEntries", number, "%s directions"},
		{"a worker's time", data, "turnLimit/1000", number, "at most %s us"},
		{"a worker's time", data, "1+lowerRest", func(n int64) string { return map[int64]string{4: "a quarter"}[n] }, "%s together"},
		{"flows inside", data, "accountSets*accountWays", number, "%s a worker"},
		{"packets by an uplink", data, "newcomerChunks*chunkSize", mebibytes, "%s a worker"},
		{"a super-frame", "dataplane/frame", "maxTCPSegments", number, "%s segments of TCP"},
		{"a super-frame", "dataplane/frame", "maxUDPSegments", number, "%s of UDP"},
		{"flooding", data, "stormRate", number, "%s frames a second"},
		{"flooding", data, "stormBurst", number, "bursts of %s;"},
		{"flooding", data, "stormRate*stormPorts", number, "%s sends a second"},
		{"flooding", data, "stormSends", number, "bursts of %s |"},
		{"frames that are being flooded", data, "floodChunks*chunkSize", mebibytes, "%s a worker"},
		{"frames that wait for a next hop", data, "waitingEach", number, "%s bytes a hop"},
		{"frames that wait for a next hop", data, "waitingChunks*chunkSize", mebibytes, "%s"},
		{"next hops that are waited for", data, "waitingHops", number, "%s"},
		{"questions to the kernel", data, "asksRoom", number, "%s in three seconds"},
		{"ICMP errors", data, "replyRate", number, "%s a second of a port"},
		{"ICMP errors", data, "replyRate/replyPart", number, "gets %s a second as"},
		{"datagrams in fragments", data, "fragContexts", number, "%s for 2 s"},
		{"datagrams in fragments", data, "fragEach", number, "%s pieces each"},
		{"deferred fragments", data, "deferredChunks*chunkSize", mebibytes, "%s"},
		{"connections of the host itself to", relay, "mostConns", number, "%s, or a twelfth"},
		{"the same of UDP", relay, "mostConns", number, "%s, or an eighth"},
		{"connections of the host itself that", relay, "openTurns", number, "%s at a time"},
		{"connections of the host itself that", relay, "openTime/1000000", number, "%s ms each"},
		{"datagrams of the host itself", relay, "backlogBytes", mebibytes, "%s"},
		{"events that late", "control/events", "kept", number, "%s"},
		{"ended flows", "control/observe", "keptFlows", number, "%s"},
		{"new connections", "control/readers", "1000000000/connectPause", number, "%s a second"},
		{"new connections", "control/readers", "connectBurst", number, "burst of %s"},
		{"requests by the page", "control/readers", "1000000000/requestPause", number, "%s a second"},
		{"requests by the page", "control/readers", "requestBurst", number, "burst of %s"},
		{"connections to the page", "control/web", "MaxConns", number, "%s"},
		{"connections to the API", "control/daemon", "localConns", number, "%s, root's not counted"},
	} {
		n, err := constantOf(c.dir, c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.row, err)
			continue
		}
		says(c.row, fmt.Sprintf(c.format, c.as(n)))
	}
	bounds := readers.BoundsFor(0)
	for k, of := range map[readers.Kind]string{
		readers.Answers: "answers under way", readers.Streams: "streams", readers.Filter: "filters of captures",
	} {
		says(of, fmt.Sprintf("%d; the page's %d | %d |", bounds[k].All, bounds[k].Page, bounds[k].Each))
	}
	says("memory for captures", mebibytes(int64(bounds[readers.Captures].All)))
	says("memory for sorted rows", fmt.Sprintf("%s; the page's %s | %s |", mebibytes(int64(bounds[readers.Rows].All)), mebibytes(int64(bounds[readers.Rows].Page)), mebibytes(int64(bounds[readers.Rows].Each))))
	says("requests whose heads", fmt.Sprintf("%d, by the page only | %d |", bounds[readers.Heads].Page, bounds[readers.Heads].Each))

	cli, metrics, api := read(t, "cli.md"), read(t, "metrics.md"), read(t, "openapi.yaml")
	for n := range dataplane.NumShared {
		for name, text := range map[string]string{"cli.md": cli, "metrics.md": metrics} {
			if !strings.Contains(text, "`"+n.String()+"`") {
				t.Errorf("%s does not name the share %s", name, n)
			}
		}
		if !strings.Contains(api, n.String()) {
			t.Errorf("openapi.yaml does not name the share %s", n)
		}
	}
	known := make(map[string]dataplane.DropReason)
	for r := dataplane.NotDropped + 1; r < dataplane.NumDropReasons; r++ {
		known[r.String()] = r
	}
	for _, r := range rows {
		m := regexp.MustCompile("^`([a-z]+-[a-z-]+)`").FindStringSubmatch(r[5])
		if m == nil {
			continue
		}
		why, ok := known[m[1]]
		if !ok {
			t.Errorf("operations.md: %s is counted as %s, which is no drop reason", r[1], m[1])
		}
		// A super-frame that is too dear is refused whoever has what.
		if means, _ := reasons.Explain(why, reasons.Facts{}); why != dataplane.DropInvalidOffload && !strings.Contains(means, "refused: share of ") {
			t.Errorf("vswitch why says of %s: %s", why, means)
		}
	}
}

// constantOf is the value of an expression of the constants that a package's files define by
// numbers.
func constantOf(dir, expr string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return 0, err
	}
	var source strings.Builder
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			b, err := os.ReadFile(f)
			if err != nil {
				return 0, err
			}
			source.Write(b)
		}
	}
	text := strings.NewReplacer("time.Millisecond", "1000000", "time.Second", "1000000000", "int64", "").Replace(source.String())
	name := regexp.MustCompile(`[A-Za-z]\w*`)
	for depth := 0; name.MatchString(expr); depth++ {
		if depth > 10 {
			return 0, fmt.Errorf("%s: %s has no end", dir, expr)
		}
		missing := ""
		expr = name.ReplaceAllStringFunc(expr, func(id string) string {
			m := regexp.MustCompile(`(?m)^(?:const|\t)\s*` + id + ` +(?:int64 +)?= *([^\n]+)`).FindStringSubmatch(text)
			if m == nil {
				missing = id
				return "0"
			}
			value, _, _ := strings.Cut(m[1], "//")
			return "(" + strings.TrimSpace(value) + ")"
		})
		if missing != "" {
			return 0, fmt.Errorf("%s: no constant %s", dir, missing)
		}
	}
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, expr)
	if err != nil {
		return 0, err
	}
	n, _ := constant.Int64Val(constant.ToInt(v.Value))
	return n, nil
}
