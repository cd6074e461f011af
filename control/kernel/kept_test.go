package kernel

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// shelf is a Holder of this process.
type shelf map[string]struct {
	fd    int
	value string
}

func (s shelf) Put(name string, fd int, value string) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if old, ok := s[name]; ok {
		unix.Close(old.fd)
	}
	s[name] = struct {
		fd    int
		value string
	}{own, value}
	return err
}

func (s shelf) Take(name string) (int, string, bool) {
	it, ok := s[name]
	if !ok {
		return -1, "", false
	}
	own, err := unix.FcntlInt(uintptr(it.fd), unix.F_DUPFD_CLOEXEC, 0)
	return own, it.value, err == nil
}

func (s shelf) close() {
	for _, it := range s {
		unix.Close(it.fd)
	}
}

// number is the kernel's of a program.
func number(p *ebpf.Program) ebpf.ProgramID {
	if p == nil {
		return 0
	}
	return id(p)
}

// TestProgramsGoOn: a process goes on with the programs of the one before, if they are all of one
// process, of this edition and this owner; their maps have in them what they had.
func TestProgramsGoOn(t *testing.T) {
	labtest.NeedBPF(t)
	kept := make(shelf)
	defer kept.close()
	begin := func(cfg Config) *Kernel {
		t.Helper()
		cfg.Holder, cfg.Owner = kept, "one"
		k, err := Open(cfg)
		if err == nil {
			err = k.SetOwner("one")
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := begin(Config{})
	fill(t, first)
	first.bound.tcp[99], first.bound.listed = 1, 1
	was := number(first.seal)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	k := begin(Config{})
	if !k.adopted || !k.GoesOn() || number(k.seal) != was {
		t.Fatalf("adopted %v, goes on %v, seal %d of %d", k.adopted, k.GoesOn(), number(k.seal), was)
	}
	if entry := uint32(0); k.flows.keys.Lookup(leftKey, &entry) != nil || entry != leftEntry || k.flows.chunks.Made() <= leftEntry || k.flows.rows[leftEntry].Key != leftKey {
		t.Errorf("entry %d", entry)
	}
	if numbered(k, 9) != 7 {
		t.Errorf("interface 9 has number %d", numbered(k, 9))
	}
	if k.bound.tcp[99] != 1 || k.bound.listed != 0 {
		t.Errorf("notes of a port %d, listed %d", k.bound.tcp[99], k.bound.listed)
	}
	time.Sleep(100 * time.Millisecond) // what empties the arrays of the process before has come by then
	for what, m := range map[string]*ebpf.Map{"living": k.living.array, "jumps": k.enter.jumps} {
		if empty(m) {
			t.Errorf("%s is empty", what)
		}
	}
	steer, err := k.Steer(-1, -1, -1, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	way := number(steer.program)
	if err := steer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = begin(Config{})
	if steer, err = k.Steer(-1, -1, -1, -1, -1); err != nil || number(steer.program) != way || k.spec != nil {
		t.Errorf("steer %d of %d, the object was read: %v; %v", number(steer.program), way, k.spec != nil, err)
	}
	steer.Close()
	w := labtest.NewWorld(t)
	if err := w.Host.Do(func() error { return k.WatchBinds(labtest.Cgroup(t)) }); err != nil {
		t.Fatal(err)
	}
	c, err := w.Host.ListenPacket("udp4", "0.0.0.0:7001")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := countedPorts(t, k)[7001]; got != [2]int32{1, 0} {
		t.Errorf("of a port that a program has bound %v sockets are counted", got)
	}
	k.Close()
	for name, spoil := range map[string]func(*Config){
		"room for another number of flows": func(c *Config) { c.MaxFlows = 1000 },
		"no flow table":                    func(c *Config) { c.NoFlowTable = true },
		"one lacks":                        func(*Config) { unix.Close(kept[HeldPrograms+"host"].fd); delete(kept, HeldPrograms+"host") },
		"one is of another process": func(*Config) {
			mixed := begin(Config{NoFlowTable: true})
			mixed.edition = (&Config{Owner: "one"}).edition(true)
			if err := mixed.keepProgram("seal", mixed.seal); err != nil {
				t.Error(err)
			}
			mixed.Close()
		},
	} {
		begin(Config{}).Close()
		var cfg Config
		spoil(&cfg)
		k := begin(cfg)
		if k.adopted {
			t.Errorf("%s: adopted", name)
		}
		k.Close()
	}
	two, err := Open(Config{Holder: kept, Owner: "two"})
	if err != nil {
		t.Fatal(err)
	}
	if two.adopted {
		t.Error("another owner goes on with them")
	}
	two.Close()
}
