package control

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// The daemon writes flows to a file and to a collector out there.
func TestFlowLogAndIPFIX(t *testing.T) {
	for _, tool := range []string{"nfcapd", "nfdump"} {
		labtest.NeedProgram(t, tool)
	}
	r := newRig(t)
	dir := t.TempDir()
	r.cfg.FlowLog, r.cfg.IPFIX = filepath.Join(dir, "flows.json"), netlab.OutsideAddr+":9995"
	nf := t.TempDir()
	nfcapd := exec.Command("nfcapd", "-w", nf, "-p", "9995", "-b", netlab.OutsideAddr)
	var log bytes.Buffer
	nfcapd.Stdout, nfcapd.Stderr = &log, &log
	if err := r.world.Outside.Start(nfcapd); err != nil {
		t.Fatal(err)
	}
	collected := make(chan error, 1)
	go func() { collected <- nfcapd.Wait() }()
	defer func() { nfcapd.Process.Kill(); <-collected; collected <- nil }()
	r.start()
	web, ct := r.attach("web", api.Attach{})
	sent := sniff(t, r.world.Outside, "eth0")
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, web, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
	if n, err := r.FlushNAT(t.Context(), api.NATFlush{}); err != nil || n.Count == 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	eventually(t, "the flow is in the file", func() bool {
		b, err := os.ReadFile(r.cfg.FlowLog)
		if err != nil || len(b) == 0 {
			return false
		}
		var f api.Flow
		if err := json.Unmarshal(bytes.SplitN(b, []byte("\n"), 2)[0], &f); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return f.Container == "web" && f.PeerAddress == netlab.OutsideAddr+":9000" && f.End != nil && f.SentBytes > 0
	})
	if sent.comes(1, func(f []byte) bool {
		return len(f) > 42 && f[23] == header.ProtoUDP && binary.BigEndian.Uint16(f[36:]) == 9995 && bytes.Contains(f[42:], act4(ct))
	}) == 0 {
		t.Error("no record of the flow is sent")
	}
	labtest.Drained(t, r.world.Outside, 9995)
	nfcapd.Process.Signal(os.Interrupt)
	select {
	case <-collected:
		collected <- nil
	case <-time.After(30 * time.Second):
		t.Fatal("nfcapd does not end")
	}
	out, err := exec.Command("nfdump", "-R", nf, "-o", "json").Output()
	if err != nil {
		t.Logf("nfdump: %v", err)
	}
	for _, want := range []string{`"src4_addr" : "` + addr(ct) + `"`, `"src4_xlt_ip" : "` + netlab.HostAddr + `"`, `"dst_port" : 9000`, `"src_port" : 9000`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the collector has no %s in %s\n%s", want, out, &log)
		}
	}
}
