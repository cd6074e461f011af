package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestRuntimeTranscripts replays what container runtimes really send: a process
// is started with the words, environment and standard input of a file, as in
// TestCommandLine, and three more sections:
//
//	cmd    program and arguments
//	env    KEY=VALUE, a line each
//	stdin
func TestRuntimeTranscripts(t *testing.T) {
	replayAll(t, "testdata/runtimes/*.txtar", func(t *testing.T, f map[string]string) (string, string, int) {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command("/proc/self/exe", strings.Fields(f["cmd"])[1:]...)
		cmd.Args[0] = programName
		cmd.Env = append(os.Environ(), strings.Split(strings.TrimSpace(f["env"]), "\n")...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(f["stdin"]), &stdout, &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		out := stdout.String()
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n" // as a file ends
		}
		return out, stderr.String(), cmd.ProcessState.ExitCode()
	})
}
