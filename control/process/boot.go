package process

import (
	"os"
	"strings"
)

// BootID names the run of the kernel: what it held in memory is gone with it.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
