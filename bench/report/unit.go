package report

import (
	"fmt"
	"math"
)

// Unit is what a value counts. Values are always in the base unit; only
// Format scales them.
type Unit string

const (
	BitsPerSecond Unit = "bit/s"
	PerSecond     Unit = "/s"
	FramesPerSec  Unit = "frames/s"
	Seconds       Unit = "s"
	SecondsPerGB  Unit = "s/GB" // 1e9 bytes
	// SecondsPerMillion is CPU seconds for a million frames.
	SecondsPerMillion Unit = "s/Mframes"
	Bytes             Unit = "B"
	Cores             Unit = "cores" // CPU seconds per second
	Lost              Unit = "frames lost"
	Failed            Unit = "connections failed"
	Share             Unit = "share" // of a whole, which is 1
)

// Format writes v for people, with three significant digits.
func (u Unit) Format(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	switch u {
	case BitsPerSecond:
		return scale(v, "", "k", "M", "G") + "bit/s"
	case PerSecond:
		return scale(v, "", "k", "M") + "/s"
	case FramesPerSec:
		return scale(v, "", "k", "M") + "pps"
	case Seconds:
		switch {
		case v >= 1:
			return digits(v) + " s"
		case v >= 1e-3:
			return digits(v*1e3) + " ms"
		}
		return digits(v*1e6) + " µs"
	case SecondsPerGB:
		return digits(v) + " s/GB"
	case SecondsPerMillion:
		return digits(v) + " s/M"
	case Bytes:
		return scale(v, "", "k", "M", "G") + "B"
	case Cores:
		return digits(v*100) + " % of a core"
	case Share:
		return digits(v*100) + " %"
	}
	return digits(v) + " " + string(u)
}

func scale(v float64, prefixes ...string) string {
	i := 0
	for ; i < len(prefixes)-1 && math.Abs(v) >= 1000; i++ {
		v /= 1000
	}
	return digits(v) + " " + prefixes[i]
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
