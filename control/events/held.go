package events

import (
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/inventory"
)

// nameWait is how long an event waits for the name that Docker's user gave what it is about:
// dockerd says it a moment after it has had its network or interface made.
const nameWait = 3 * time.Second

// maxHeld bounds the events that wait for one name.
const maxHeld = 64

// held are events that wait, by the ID of what has no name yet.
type held struct {
	mu   sync.Mutex
	list map[string][]func() told
}

// later adds an event, after others of what it is about, once that has its name.
func (l *Log) later(id string, nameless bool, event func() told) {
	l.held.mu.Lock()
	defer l.held.mu.Unlock()
	waiting, waits := l.held.list[id]
	if !nameless && !waits || len(waiting) >= maxHeld {
		l.add(event())
		return
	}
	if !waits {
		time.AfterFunc(nameWait, func() { l.named(id) })
	}
	if l.held.list == nil {
		l.held.list = make(map[string][]func() told)
	}
	l.held.list[id] = append(waiting, event)
}

// named adds the events that waited for a name, and reports whether there were any.
func (l *Log) named(id string) bool {
	l.held.mu.Lock()
	defer l.held.mu.Unlock()
	waiting := l.held.list[id]
	delete(l.held.list, id)
	for _, event := range waiting {
		l.add(event())
	}
	return len(waiting) > 0
}

// nameless reports whether Docker will say in a moment what its user calls a container.
func nameless(ct *directory.Container) bool { return ct.Runtime == api.RuntimeDocker && ct.Nameless() }

// namelessNetwork is the same of a network.
func namelessNetwork(n *inventory.Network) bool {
	if n.Rec.Labels[api.LabelDockerNetwork] != "" || !strings.HasPrefix(n.Rec.Name, "docker-") {
		return false
	}
	for key := range n.Rec.Labels {
		if strings.HasPrefix(key, api.UsedBy+api.RuntimeDocker+".") {
			return true
		}
	}
	return false
}

// Name is what people call a container.
func (l *Log) Name(ct *inventory.Container) string { return l.whole(ct).Name }

// whole is the container that one of the inventory is a piece of, as people know it.
func (l *Log) whole(ct *inventory.Container) *directory.Container {
	if whole := l.names.Now().ByID(ct.Rec.ID); whole != nil {
		return whole
	}
	return &directory.Container{ID: ct.Rec.ID, Name: ct.Called(), Runtime: ct.Rec.Runtime}
}
