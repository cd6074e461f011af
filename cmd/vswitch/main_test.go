package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Names under which the test binary is something else: the program itself, and
// a command for it to run.
const (
	programName = "vswitch"
	countName   = "count-interrupts"
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case runInitName, demoContainerName, programName:
		main()
	}
	switch filepath.Base(os.Args[0]) {
	case programName:
		main() // installed by a document
	case countName:
		countInterrupts()
	case ipamName:
		beIPAM()
	}
	labtest.Enter()
	goleak.VerifyTestMain(m)
}
