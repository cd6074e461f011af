package dataplane_test

import (
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestTwins: a switch to which the kernel's side carries flows does with random and hostile
// frames what one without does. The kernel's side is the model; control/kernel has the
// programs themselves. VSWITCH_TWINS is for how long.
func TestTwins(t *testing.T) {
	seed, lasts := TwinsOf(t, 3*time.Second)
	w := NewTwins(t, seed, func(clock *atomic.Int64) Side { return NewModelSide(256, clock) })
	w.Run(time.Now().Add(lasts))
}

// TestTwinsAlone: while nobody is there the kernel's side does with the frames that it carries
// what the stages do. VSWITCH_TWINS and VSWITCH_SEED are as in TestTwins.
func TestTwinsAlone(t *testing.T) {
	seed, lasts := TwinsOf(t, 3*time.Second)
	w := NewTwins(t, seed, func(clock *atomic.Int64) Side { return NewModelSide(256, clock) })
	w.RunAlone(time.Now().Add(lasts))
}

// TestC26ForgedSegments: forged segments end no connection that the kernel's side carries,
// and move nothing of it. VSWITCH_FORGED is how many to each kind of flow (make twins).
func TestC26ForgedSegments(t *testing.T) {
	n := 1 << 14
	if m, err := strconv.Atoi(os.Getenv("VSWITCH_FORGED")); err == nil {
		n = m
	}
	w := NewTwins(t, uint64(time.Now().UnixNano()), func(clock *atomic.Int64) Side { return NewModelSide(256, clock) })
	w.Withstand(n)
}
