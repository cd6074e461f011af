package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

// deadline bounds one call.
const deadline = time.Minute

// Stages of a container's life at which runtimes call hooks. Attached is at the
// first that runs in the runtime's namespaces and knows the process, released at
// the last.
const (
	CreateRuntime = "createRuntime"
	Prestart      = "prestart" // its name in runtimes before version 1.0.2 of the specification
	Poststop      = "poststop"
)

// state is what a hook reads (runtime.md, State).
type state struct {
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Status      string            `json:"status"`
	PID         int               `json:"pid"`
	Annotations map[string]string `json:"annotations"`
}

// Run does what a stage asks for, "" being the one that the state tells. A
// container without an annotation of ours is none of our business.
func Run(ctx context.Context, stage, socket string, in io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var s state
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("standard input is no state of a container: %w: runtimes call this as a hook", err)
	}
	if s.ID == "" {
		return fmt.Errorf("the state on standard input has no id: runtimes call this as a hook")
	}
	if stage == "" {
		stage = s.stage()
	}
	daemon := client.New(socket)
	defer daemon.Close()
	switch stage {
	case CreateRuntime, Prestart:
		at, ours, err := s.request()
		if err != nil || !ours {
			return err
		}
		ct, err := daemon.AttachIn(ctx, at)
		if err != nil {
			return err
		}
		if err := s.name(ct); err != nil { // who fails is released with the process
			return fmt.Errorf("container %s: %w", s.ID, err)
		}
		return nil
	case Poststop:
		// By the identifier alone: process and namespace may be gone, and a runtime
		// may have lost the annotations.
		return daemon.Release(ctx, api.Release{Runtime: api.RuntimeOCI, RuntimeID: s.ID})
	}
	return fmt.Errorf("stage %q: use %s and %s", stage, CreateRuntime, Poststop)
}

// stage tells what a runtime is about, where the hook's arguments do not: after a
// container's end there is no process. crun leaves status as it was then.
func (s *state) stage() string {
	if s.PID <= 0 || s.Status == "stopped" {
		return Poststop
	}
	return CreateRuntime
}

// prefix begins our annotations.
const prefix = "org.vswitch."

var words = []string{"network", "ports", "name", "ip", "ip6", "mac", "ifname", "guard", "vlan", "trunk", "labels"}

// request is what the annotations ask for; ours is false when there is none.
//
// The container is bound to its process. So it is released when that ends, and
// also when a later hook fails: crun then ends the process and calls no poststop.
func (s *state) request() (at api.Attach, ours bool, err error) {
	at = api.Attach{
		Name: client.FriendlyName(client.ShortID(s.ID)), Runtime: api.RuntimeOCI, RuntimeID: s.ID,
		PID: s.PID, Ephemeral: true,
	}
	get := make(map[string]string)
	for key, v := range s.Annotations {
		word, is := strings.CutPrefix(key, prefix)
		if !is {
			continue
		}
		if !slices.Contains(words, word) {
			return at, true, fmt.Errorf("container %s: annotation %s: use %s%s", s.ID, key, prefix, strings.Join(words, ", "))
		}
		get[word], ours = strings.TrimSpace(v), true
	}
	if !ours {
		return at, false, nil
	}
	if s.PID <= 0 {
		return at, true, fmt.Errorf("container %s: the state has no process: call the hook at %s", s.ID, CreateRuntime)
	}
	if get["name"] != "" {
		at.Name = get["name"]
	}
	networks := fields(get["network"])
	if len(networks) == 0 {
		networks = []string{""} // the default network
	}
	for _, n := range networks {
		at.Networks = append(at.Networks, api.Connect{Network: n})
	}
	first := &at.Networks[0]
	first.IP, first.IP6, first.MAC, first.Ifname = get["ip"], get["ip6"], get["mac"], get["ifname"]
	first.Guard, first.Trunk = get["guard"], get["trunk"]
	if v := get["vlan"]; v != "" {
		if _, err := fmt.Sscanf(v, "%d", &first.VLAN); err != nil {
			return at, true, fmt.Errorf("container %s: annotation %svlan: %q is no number", s.ID, prefix, v)
		}
	}
	at.Publish = fields(get["ports"])
	for _, pair := range fields(get["labels"]) {
		key, v, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return at, true, fmt.Errorf("container %s: annotation %slabels: %q: write KEY=VALUE", s.ID, prefix, pair)
		}
		if at.Labels == nil {
			at.Labels = make(map[string]string)
		}
		at.Labels[key] = v
	}
	return at, true, nil
}

// fields are the words of a list with commas or blanks.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
