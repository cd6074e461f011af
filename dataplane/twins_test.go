package dataplane_test

import (
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// twinsOf are the seed of a run, which it tells, and its length.
func twinsOf(t *testing.T) (seed uint64, lasts time.Duration) {
	lasts = 3 * time.Second
	if d, err := time.ParseDuration(os.Getenv("VSWITCH_TWINS")); err == nil {
		lasts = d
	}
	seed = uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("VSWITCH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("VSWITCH_SEED=%d", seed)
	return seed, lasts
}

// TestTwins: a switch to which the kernel's side carries flows does with random and hostile
// frames what one without does. The kernel's side is the model; control/kernel has the
// programs themselves. VSWITCH_TWINS is for how long.
func TestTwins(t *testing.T) {
	seed, lasts := twinsOf(t)
	w := NewTwins(t, seed, func(clock *atomic.Int64) Side { return NewModelSide(256, clock) })
	w.Run(time.Now().Add(lasts))
}

// TestTwinsAlone: while nobody is there the kernel's side does with the frames that it carries
// what the stages do. VSWITCH_TWINS and VSWITCH_SEED are as in TestTwins.
func TestTwinsAlone(t *testing.T) {
	seed, lasts := twinsOf(t)
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
