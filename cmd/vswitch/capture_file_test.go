package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFileSinkNames: files are named and used again as tcpdump does it.
func TestFileSinkNames(t *testing.T) {
	whole := stream(t, 40, 0) // packets of some 100 bytes
	for _, tt := range []struct {
		size  int64
		files int
		want  []string
	}{
		{0, 0, []string{"f"}},
		{1000, 0, []string{"f", "f1", "f2", "f3", "f4"}},
		{1000, 1, []string{"f"}},
		{1000, 3, []string{"f0", "f1", "f2"}},
		{1000, 11, []string{"f00", "f01", "f02", "f03", "f04"}},
	} {
		dir := t.TempDir()
		s := &fileSink{path: filepath.Join(dir, "f"), size: tt.size, files: tt.files}
		w := &blockWriter{w: s}
		for piece := whole; len(piece) > 0; piece = piece[min(300, len(piece)):] {
			if _, err := w.Write(piece[:min(300, len(piece))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		packets := 0
		list, err := os.ReadDir(dir)
		for _, e := range list {
			got = append(got, e.Name())
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil || tt.size > 0 && int64(len(b)) > tt.size+500 {
				t.Errorf("%s: %d bytes, %v", e.Name(), len(b), err)
			}
			var lines bytes.Buffer
			if err := printPackets(&lines, bytes.NewReader(b), true); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			}
			packets += bytes.Count(lines.Bytes(), []byte("web: IP 10.88.0.2.1"))
		}
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("size %d, %d files, %v (-want +got):\n%s", tt.size, tt.files, err, d)
		}
		if kept := packets == 40; kept != (tt.files == 0 || tt.files == 11) || packets == 0 {
			t.Errorf("size %d, %d files: %d packets", tt.size, tt.files, packets)
		}
	}
}

// TestFileSinkFull: on a full disk the file ends with a whole block.
func TestFileSinkFull(t *testing.T) {
	s := &fileSink{path: "/dev/full"}
	w := &blockWriter{w: s}
	if _, err := w.Write(stream(t, 1, 0)); err == nil {
		t.Error("a full disk is no error")
	}
	s.Close()
}

func TestFileSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1": 1e6, "100": 1e8, "8K": 8192, "3m": 3 << 20, "1G": 1 << 30, "0": -1, "-1": -1, "K": -1, "1T": -1, "99999999999": -1} {
		got, err := fileSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

// TestCaptureRefuses: what cannot be carried out is refused before a file is made.
func TestCaptureRefuses(t *testing.T) {
	newFakeDaemon(t, nil)
	for args, want := range map[string]string{
		"":                   "capture: TARGET is missing",
		"web -C 1":           "capture: -C: name the files with -w FILE",
		"web -C x -w f":      `capture: -C "x": must be millions of bytes, or a number with K, M or G`,
		"web -W 3 -w f":      "capture: -W 3: a number of files, with -C their size",
		"web --duration -1s": "capture: --duration and --last must be times such as 30s",
		"web --snaplen -1":   "capture: --snaplen -1: must be a number of bytes",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"capture"}, strings.Fields(args)...), nil, &stdout, &stderr)
		if full := fmt.Sprintf("vswitch: %s: see vswitch capture --help\n", want); code != exitUsage || stderr.String() != full {
			t.Errorf("capture %s: exit code %d, %q, want %q", args, code, stderr.String(), full)
		}
	}
}

// Packets are for nobody else to read, whatever the umask, also in a file that was
// there; a device keeps its mode.
func TestS73CaptureFilesAreTheirOwners(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("older"), 0o666); err != nil {
		t.Fatal(err)
	}
	whole := stream(t, 40, 0)
	for _, s := range []*fileSink{{path: filepath.Join(dir, "new")}, {path: old}, {path: filepath.Join(dir, "ring"), size: 1000, files: 3}} {
		if _, err := (&blockWriter{w: s}).Write(whole); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 5 {
		t.Fatalf("got %v, %v; want five files", files, err)
	}
	for _, f := range files {
		if fi, err := f.Info(); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f.Name(), fi.Mode(), err)
		}
	}
	before, err := os.Stat(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	null := &fileSink{path: os.DevNull}
	if err := null.open(); err != nil {
		t.Fatal(err)
	}
	if err := null.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(os.DevNull); err != nil || after.Mode() != before.Mode() {
		t.Errorf("%s has mode %v now, %v; want %v", os.DevNull, after.Mode(), err, before.Mode())
	}
}
