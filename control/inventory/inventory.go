package inventory

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/model"
)

// Inventory is all that there is. It is not safe for concurrent use: its user holds a lock.
// The directory follows it, and is read without the lock.
type Inventory struct {
	Networks   map[string]*Network   // by name, also those being made
	Containers map[string]*Container // by name, also those being attached
	Endpoints  map[string]*Endpoint  // by name of the host end
	Pools      [2]netip.Prefix       // of subnets that nobody names, by family
	Numbers    Numbers
	Marks      Marks
	Uplinks    Uplinks

	names *directory.Live
	late  map[*Container]bool // see Together; nil: the directory is told at once
}

// New makes an empty inventory, whose entries names will have.
func New(names *directory.Live) *Inventory {
	return &Inventory{
		Networks: make(map[string]*Network), Containers: make(map[string]*Container), Endpoints: make(map[string]*Endpoint),
		Numbers: newNumbers(), names: names,
	}
}

// Container finds a container that is ready, as the directory does; of one in pieces the
// piece that is meant, or its way out.
func (v *Inventory) Container(word string) (*Container, error) {
	list, err := v.Pieces(word)
	if err != nil {
		return nil, err
	}
	for _, ct := range list {
		if ct.Rec.ID == word || ct.Rec.Name == word && len(list) > 1 && !v.called(ct, word) {
			return ct, nil
		}
	}
	return list[0], nil
}

// Pieces finds a container that is ready, as the directory does: all that is of it, its way
// out first. The very ID that a runtime gave a piece is that piece alone.
func (v *Inventory) Pieces(word string) ([]*Container, error) {
	found, err := v.names.Now().Container(word)
	if err != nil {
		return nil, err
	}
	for _, p := range found.Pieces {
		if p.RuntimeID == word && found.RuntimeID != word && p.Ready {
			return []*Container{v.Containers[p.Name]}, nil
		}
	}
	return v.piecesOf(found), nil
}

// Meant are the same, or the one of that very name: a piece that the container has not its name
// from, or what is still being attached.
func (v *Inventory) Meant(word string) ([]*Container, error) {
	if ct := v.Containers[word]; ct != nil && (!ct.Ready || !v.called(ct, word)) {
		return []*Container{ct}, nil
	}
	list, err := v.Pieces(word)
	if err == nil {
		return list, nil
	}
	for _, ct := range v.Containers {
		if ct.Rec.ID == word && !ct.Ready {
			return []*Container{ct}, nil // who asks for its end waits for it
		}
	}
	return nil, err
}

func (v *Inventory) piecesOf(whole *directory.Container) (list []*Container) {
	if whole.Pieces == nil {
		return []*Container{v.Containers[whole.Name]}
	}
	for _, p := range whole.Pieces {
		if p.Ready {
			list = append(list, v.Containers[p.Name])
		}
	}
	return list
}

// called reports whether the container that a piece is of has a name.
func (v *Inventory) called(ct *Container, name string) bool {
	whole := v.names.Now().ByID(ct.Rec.ID)
	return whole != nil && whole.Name == name
}

// View shows the container of a word to clients, or what the word says of it.
func (v *Inventory) View(word string) (api.Container, error) {
	list, err := v.Pieces(word)
	if err != nil {
		return api.Container{}, err
	}
	whole := v.names.Now().ByID(list[0].Rec.ID)
	if len(list) == 1 && list[0].Rec.RuntimeID == word || whole == nil {
		return list[0].View(), nil // as its runtime knows it
	}
	return v.viewWhole(whole), nil
}

// Views shows the containers that a filter takes, by name. A network or runtime that
// is not there is an error.
func (v *Inventory) Views(f api.ContainerFilter) ([]api.Container, error) {
	if f.Network != "" {
		n, err := v.Network(f.Network)
		if err != nil {
			return nil, err
		}
		f.Network = n.Rec.Name
	}
	if f.Runtime != "" && !slices.Contains(api.Runtimes, f.Runtime) &&
		!slices.ContainsFunc(v.ReadyContainers(), func(ct *Container) bool { return ct.Rec.Runtime == f.Runtime }) {
		return nil, model.NotFoundf("nothing was attached by runtime %s: use one of %s", f.Runtime, strings.Join(api.Runtimes, ", "))
	}
	list, meant := []api.Container{}, v.names.Now().Containers()
	if f.Select != "" {
		s, err := v.names.Now().Select(f.Select)
		if err != nil {
			return nil, err
		}
		meant = slices.Values(s.Containers)
	}
	for whole := range meant {
		if slices.ContainsFunc(v.piecesOf(whole), func(ct *Container) bool { return ct.Selected(f) }) {
			list = append(list, v.viewWhole(whole))
		}
	}
	slices.SortFunc(list, func(a, b api.Container) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// Network finds a network that is ready, as the directory does.
func (v *Inventory) Network(name string) (*Network, error) {
	found, err := v.names.Now().Network(name)
	if err != nil {
		return nil, err
	}
	return v.Networks[found.Made], nil
}

// OfRuntime returns what a runtime attached, or is attaching, as id.
func (v *Inventory) OfRuntime(runtime, id string) *Container {
	for _, ct := range v.Containers {
		if runtime != "" && ct.Rec.Runtime == runtime && ct.Rec.RuntimeID == id {
			return ct
		}
	}
	return nil
}

// ReadyContainers lists the containers that are ready by name.
func (v *Inventory) ReadyContainers() []*Container {
	list := slices.DeleteFunc(slices.Collect(maps.Values(v.Containers)), func(ct *Container) bool { return !ct.Ready })
	slices.SortFunc(list, func(a, b *Container) int { return cmp.Compare(a.Rec.Name, b.Rec.Name) })
	return list
}

// ReadyNetworks lists the networks that are ready by name.
func (v *Inventory) ReadyNetworks() []*Network {
	list := slices.DeleteFunc(slices.Collect(maps.Values(v.Networks)), func(n *Network) bool { return !n.Ready })
	slices.SortFunc(list, func(a, b *Network) int { return cmp.Compare(a.Rec.Name, b.Rec.Name) })
	return list
}

// Enter enters a container, or what has changed of it.
func (v *Inventory) Enter(ct *Container) {
	v.Containers[ct.Rec.Name] = ct
	v.Changed(ct)
}

// Changed tells the directory of a change of a container, and messages about its addresses what
// people call it.
func (v *Inventory) Changed(ct *Container) {
	for _, e := range ct.Endpoints {
		e.Network.MACs[e.MAC] = "container " + ct.Called()
		e.Network.Addrs.Rename(e.Addrs, ct.Called())
	}
	if v.late != nil {
		v.late[ct] = true
		return
	}
	v.names.PutContainer(ct.listing())
}

// Together puts off what the directory is told of containers until the end, which is one change
// of it. mu is the lock of the inventory.
func (v *Inventory) Together(mu sync.Locker) (end func()) {
	mu.Lock()
	defer mu.Unlock()
	v.late = make(map[*Container]bool)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		list := make([]directory.Container, 0, len(v.late))
		for ct := range v.late {
			list = append(list, ct.listing())
		}
		v.late = nil
		v.names.PutContainers(list)
	}
}

// Forget is the end of a container.
func (v *Inventory) Forget(ct *Container) {
	delete(v.Containers, ct.Rec.Name)
	delete(v.late, ct)
	v.names.DropContainer(ct.Rec.ID)
}

// Rename enters a container under a name in every table that has it.
func (v *Inventory) Rename(ct *Container, name string) {
	delete(v.Containers, ct.Rec.Name)
	ct.Rec.Name = name
	v.Enter(ct)
}

// Missed compares the cables with the host's links, when events may have been missed: lost are
// containers that have a cable less, moved those whose runtime has moved an end by itself, or,
// with true, of which a host end has another name.
func (v *Inventory) Missed(links []host.Link) (lost, moved map[*Container]bool) {
	have := make(map[int]host.Link, len(links))
	for _, l := range links {
		have[l.Index] = l
	}
	lost, moved = make(map[*Container]bool), make(map[*Container]bool)
	for _, e := range v.Endpoints {
		switch l := have[e.Index]; {
		case !e.Live:
		case l.Alias != e.Alias: // another may have its number
			lost[e.Container] = true
		case l.Name != e.Veth || e.Container.Rec.Handover && l.Running:
			moved[e.Container] = moved[e.Container] || l.Name != e.Veth
		}
	}
	return lost, moved
}

// EnterNetwork enters a network, or what has changed of it.
func (v *Inventory) EnterNetwork(n *Network) {
	v.Networks[n.Rec.Name] = n
	v.ChangedNetwork(n)
	v.callAnew(n)
}

// ChangedNetwork tells the directory of a change of a network, and of its containers where
// that is its name.
func (v *Inventory) ChangedNetwork(n *Network) {
	was := n.Called()
	name := n.Rec.Labels[api.LabelDockerNetwork]
	for _, o := range v.Networks {
		if o != n && (o.Rec.Name == name || o.Rec.Labels[api.LabelDockerNetwork] == name) {
			name = "" // nobody could tell them apart
			break
		}
	}
	n.called.Store(&name)
	n.Addrs.Call(n.Called())
	v.names.PutNetwork(n.listing())
	if n.Called() == was {
		return
	}
	for e := range n.Members {
		v.Changed(e.Container)
	}
	v.callAnew(n)
}

// callAnew looks again at networks whose name is that of one that came, changed or went.
func (v *Inventory) callAnew(n *Network) {
	for _, o := range v.Networks {
		label := o.Rec.Labels[api.LabelDockerNetwork]
		if o != n && label != "" && (label == n.Rec.Name || label == n.Rec.Labels[api.LabelDockerNetwork]) {
			v.ChangedNetwork(o)
		}
	}
}

// ForgetNetwork is the end of a network. That it is not entered is no error.
func (v *Inventory) ForgetNetwork(n *Network) {
	if v.Networks[n.Rec.Name] == n {
		delete(v.Networks, n.Rec.Name)
		v.names.DropNetwork(n.Rec.ID)
		v.callAnew(n)
	}
}

// Overlap returns a network whose subnet overlaps p, nil when there is none.
func (v *Inventory) Overlap(p netip.Prefix) (*Network, netip.Prefix) {
	for _, n := range v.Networks {
		for _, s := range n.Rec.Subnets {
			if s.Prefix.Overlaps(p) {
				return n, s.Prefix
			}
		}
	}
	return nil, netip.Prefix{}
}

// NextSubnet is the first subnet of a family's pool that no network overlaps and free
// takes; ok is false when there is none.
func (v *Inventory) NextSubnet(f model.Family, free func(netip.Prefix) bool) (p netip.Prefix, ok bool) {
	return model.NextSubnet(v.Pools[f], max(model.PoolBits[f], v.Pools[f].Bits()), func(p netip.Prefix) bool {
		n, _ := v.Overlap(p)
		return n == nil && free(p)
	})
}
