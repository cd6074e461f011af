package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "directory of the module")
	from := flag.String("json", "", "output of go test -json to read, instead of running the tests")
	out := flag.String("o", "docs/conformance.md", "file to write, relative to -root")
	flag.Parse()
	if err := run(*root, *from, *out); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(root, from, out string) error {
	rows, err := readRows(root)
	if err != nil {
		return err
	}
	tests, err := findTests(root)
	if err != nil {
		return err
	}
	if err := rows.assign(tests); err != nil {
		return err
	}
	var events io.Reader
	if from != "" {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		events = f
	} else {
		b, err := runTests(root, tests)
		if err != nil {
			return err
		}
		events = bytes.NewReader(b)
	}
	res, err := readResults(events)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	sum := write(&b, rows, res)
	if err := os.WriteFile(filepath.Join(root, out), b.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Print(sum)
	return nil
}

// runTests runs the tests that carry rows. That some of them fail is a result.
func runTests(root string, tests []test) ([]byte, error) {
	args := []string{"test", "-json", "-count=1", "-run", "^Test[NLCSF][0-9]{2}"}
	seen := make(map[string]bool)
	for _, t := range tests {
		if !seen[t.dir] {
			seen[t.dir] = true
			args = append(args, "./"+t.dir)
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	b, err := cmd.Output()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		return nil, fmt.Errorf("go test: %w", err)
	}
	return b, nil
}
