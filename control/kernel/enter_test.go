package kernel

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestFiltersFitASocket: where a socket may have as little for its options as until Linux
// 6.7, it takes the filters all the same, with the flow table and without.
func TestFiltersFitASocket(t *testing.T) {
	for name, cfg := range map[string]Config{"flow table": {}, "bare": {NoFlowTable: true}} {
		t.Run(name, func(t *testing.T) {
			labtest.NeedBPF(t)
			k, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			packets, err := k.Packets()
			if err != nil {
				t.Fatal(err)
			}
			err = labtest.New(t, "host").Do(func() error {
				// Each namespace has its own from Linux 6.9 on; before, those have none.
				err := os.WriteFile("/proc/sys/net/core/optmem_max", []byte("20480"), 0)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
				for _, fd := range []int{k.FilterFD(), k.DecideFD(), packets.FilterFD()} {
					if fd < 0 {
						continue
					}
					s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						return err
					}
					defer unix.Close(s)
					if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, fd); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
