package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was got into testdata")

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestTranscripts replays what dockerd sends, from testdata, and compares what the
// daemon is asked (=) and dockerd is answered (<).
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, want)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
			for i := range max(len(w), len(g)) {
				if i >= len(w) || i >= len(g) || w[i] != g[i] {
					t.Fatalf("line %d:\n got %s\nwant %s", i+1, at(g, i), at(w, i))
				}
			}
		})
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

func replay(t *testing.T, transcript []byte) []byte {
	var out bytes.Buffer
	b := newLedger()
	b.note = func(what string, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "= %s %s\n", what, text)
	}
	h := Handler(b, nil, quiet)
	for in := bufio.NewScanner(bytes.NewReader(transcript)); in.Scan(); {
		line := in.Text()
		call, ok := strings.CutPrefix(line, "> ")
		if !ok {
			if !strings.HasPrefix(line, "=") && !strings.HasPrefix(line, "<") {
				fmt.Fprintln(&out, line)
			}
			continue
		}
		fmt.Fprintln(&out, line)
		method, body, _ := strings.Cut(call, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "POST", "/"+method, strings.NewReader(body)))
		status := ""
		if w.Code != 200 {
			status = fmt.Sprintf("%d ", w.Code)
		}
		fmt.Fprintf(&out, "< %s%s", status, w.Body)
	}
	return out.Bytes()
}
