// Package byhand remembers the ports that people added to containers whose runtime makes their
// interfaces anew with each start, while these are away. They are bound to the runtime's ID of
// the container: one that is made anew under the same name is another.
package byhand

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/state"
)

// most bounds the containers that are remembered: of those that never came back nobody tells.
const most = 1024

// Store keeps them on disk.
type Store interface {
	PutByHand([]state.ByHand) error
}

// Ports are the ports of containers that are away. Its methods are safe for concurrent use.
type Ports struct {
	store Store
	log   *slog.Logger

	mu   sync.Mutex
	list []state.ByHand // those that are away for longest first
}

// New begins with what is on record.
func New(store Store, list []state.ByHand, log *slog.Logger) *Ports {
	return &Ports{store: store, list: list, log: log}
}

// containerID is what the runtime calls a container for as long as it exists, "" where nothing
// tells it. Docker's ID of a piece is the endpoint's, which is another with each start.
func containerID(runtime string, labels map[string]string) string {
	if runtime != api.RuntimeDocker {
		return ""
	}
	return labels[api.LabelContainerID]
}

// Keep remembers what was added by hand of the mappings that a container loses.
func (p *Ports) Keep(ct *inventory.Container, lost []*inventory.Mapping) {
	gone := state.ByHand{Container: containerID(ct.Rec.Runtime, ct.Rec.Labels), Name: ct.Called()}
	for _, m := range lost {
		if m.ByHand {
			gone.Ports = append(gone.Ports, m.Record())
		}
	}
	if gone.Container != "" && len(gone.Ports) > 0 {
		p.keep(gone)
	}
}

func (p *Ports) keep(gone state.ByHand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.list)
	if i := p.find(gone.Container); i >= 0 {
		gone.Ports = append(slices.Clone(list[i].Ports), gone.Ports...)
		list = slices.Delete(list, i, i+1)
	}
	list = append(list, gone)
	p.put(list[max(0, len(list)-most):])
}

// Teller tells readers of events.
type Teller interface {
	NotAgain(container string, ports []string, why string)
}

// Return publishes again what a container that is there had, and tells what is not.
func (p *Ports) Return(ct *api.Container, publish func(ctx context.Context, name string, rules []string) ([]api.PortMapping, error), tell Teller) {
	id := containerID(ct.Runtime, ct.Labels)
	name := cmp.Or(ct.Labels[api.LabelContainerName], ct.Name)
	had, others := p.take(id, name)
	for _, b := range others {
		tell.NotAgain(name, Texts(b.Ports), "the container is another one by now, made anew")
	}
	if len(had.Ports) == 0 {
		return
	}
	if _, err := publish(context.Background(), id, Texts(had.Ports)); err != nil {
		tell.NotAgain(name, Texts(had.Ports), err.Error())
		p.keep(had) // for its next start
	}
}

// take finds and forgets what a container had, and what others had that were called as it is.
func (p *Ports) take(id, name string) (had state.ByHand, others []state.ByHand) {
	if id == "" {
		return had, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(p.list), func(b state.ByHand) bool {
		switch {
		case b.Container == id:
			had = b
		case b.Name == name:
			others = append(others, b)
		default:
			return false
		}
		return true
	})
	if len(rest) < len(p.list) {
		p.put(rest)
	}
	return had, others
}

func (p *Ports) find(id string) int {
	return slices.IndexFunc(p.list, func(b state.ByHand) bool { return b.Container == id })
}

// put needs mu.
func (p *Ports) put(list []state.ByHand) {
	p.list = list
	if err := p.store.PutByHand(list); err != nil {
		p.log.Warn("ports that were added by hand are forgotten with this process", "err", err)
	}
}

// Texts writes ports as after -p.
func Texts(list []state.Port) (texts []string) {
	for _, p := range list {
		texts = append(texts, inventory.PortText(p))
	}
	return texts
}
