package directory

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Kinds of words, beside names of runtimes.
const (
	byContainer = "container"
	byID        = "id" // of the container, whatever it is called
	byService   = "service"
	byProject   = "project"
	byLabel     = "label"
)

// Word is how people say which containers they mean: NAME, RUNTIME:NAME, an address, an ID or
// its beginning; service:NAME, project:NAME, label:KEY or label:KEY=VALUE. All but a label may
// end in /INTERFACE.
type Word struct {
	kind  string // "" is whatever is called so
	value string
	// Ifname is the interface that was named, "": all of them.
	Ifname string
	pinned bool // it fits nothing but what it was found to be
}

// ParseWord reads a word.
func ParseWord(text string) (Word, error) {
	if rest, ok := strings.CutPrefix(text, byLabel+":"); ok { // whose keys and values have strokes
		if rest == "" || rest[0] == '=' {
			return Word{}, noWord(text)
		}
		return Word{kind: byLabel, value: rest}, nil
	}
	name, ifname, hasIf := strings.Cut(text, "/")
	w := Word{value: name, Ifname: ifname}
	if kind, rest, ok := strings.Cut(name, ":"); ok && !isAddr(name) {
		w.kind, w.value = kind, rest
		if kind == "" {
			return w, noWord(text)
		}
	}
	if w.value == "" || hasIf && ifname == "" {
		return w, noWord(text)
	}
	return w, nil
}

func noWord(text string) error {
	return model.Invalidf("container %q: name one, or RUNTIME:NAME, an address, an ID, service:NAME, project:NAME or label:KEY=VALUE", text)
}

func isAddr(word string) bool {
	_, err := netip.ParseAddr(word)
	return err == nil
}

// String is the word as it is written.
func (w Word) String() string {
	text := w.value
	if w.kind != "" && w.kind != byID && !(w.kind == byContainer && w.pinned) {
		text = w.kind + ":" + text
	}
	if w.Ifname != "" {
		text += "/" + w.Ifname
	}
	return text
}

// Runtime is what the word names as one, "": none.
func (w Word) Runtime() string {
	if slices.Contains([]string{byContainer, byID, byService, byProject, byLabel}, w.kind) {
		return ""
	}
	return w.kind
}

// Whole is the word without its interface.
func (w Word) Whole() Word { w.Ifname = ""; return w }

// Fits reports whether a container is meant, by what it is called. One that is not there yet
// may be whatever comes first.
func (w Word) Fits(ct *Container) bool {
	switch w.kind {
	case "":
		return ct.Name == w.value || ct.ID == w.value || ct.serves(w.value) || ct.ofProject(w.value)
	case byContainer:
		return ct.Name == w.value
	case byID:
		return ct.ID == w.value
	case byService:
		return ct.serves(w.value)
	case byProject:
		return ct.ofProject(w.value)
	case byLabel:
		return ct.labelled(w.value)
	}
	return ct.Runtime == w.kind && ct.Name == w.value
}

// FitsPort reports whether a port is meant, with the container that is or was at it.
func (w Word) FitsPort(ct *Container, p Port) bool {
	return ct != nil && p.Kind == KindContainer && (w.Ifname == "" || w.Ifname == p.Ifname) && w.Fits(ct)
}

func (ct *Container) serves(name string) bool {
	return slices.ContainsFunc(ct.pieces(), func(p *Container) bool { return slices.Contains(p.Services, name) }) ||
		slices.ContainsFunc(ct.Endpoints, func(e Endpoint) bool { return slices.Contains(e.Aliases, name) })
}

func (ct *Container) ofProject(name string) bool {
	return slices.ContainsFunc(ct.pieces(), func(p *Container) bool { return p.Project == name && name != "" })
}

// labelled reports whether the container has a label, KEY or KEY=VALUE.
func (ct *Container) labelled(text string) bool {
	key, value, valued := strings.Cut(text, "=")
	return slices.ContainsFunc(ct.pieces(), func(p *Container) bool {
		v, ok := p.Labels[key]
		return ok && (!valued || v == value)
	})
}

// Selection is what a word means at a time, and of what comes later.
type Selection struct {
	Word
	Containers []*Container // by name
}

// Ports are the ports of what was meant.
func (s *Selection) Ports() []frame.PortID {
	ports := []frame.PortID{}
	for _, ct := range s.Containers {
		for _, e := range ct.Endpoints {
			if e.Plugged && (s.Ifname == "" || s.Ifname == e.Ifname) {
				ports = append(ports, e.Port)
			}
		}
	}
	return ports
}

// Select finds the ready containers that a word means: as Container does, or all of a service,
// a project or a label. A bare word that no container has is that of a service or else of a
// project. It is for those who look: who changes a container names it, with Chosen or Container.
func (d *Directory) Select(text string) (Selection, error) {
	w, err := ParseWord(text)
	if err != nil {
		return Selection{}, err
	}
	list, err := d.chosen(w)
	if err != nil && len(list) == 0 && w.kind == "" && !isAddr(w.value) {
		for _, kind := range []string{byService, byProject} {
			if found := d.fitting(Word{kind: kind, value: w.value}); len(found) > 0 {
				w.kind, list, err = kind, found, nil
				break
			}
		}
	}
	if err != nil {
		return Selection{}, err
	}
	return d.selection(w, list)
}

// Chosen finds the ready containers of a word that says what it means: of a bare one the
// container that has it.
func (d *Directory) Chosen(text string) (Selection, error) {
	w, err := ParseWord(text)
	if err != nil {
		return Selection{}, err
	}
	list, err := d.chosen(w)
	if err != nil {
		return Selection{}, err
	}
	return d.selection(w, list)
}

// selection pins a word to what it was found to be.
func (d *Directory) selection(w Word, list []*Container) (Selection, error) {
	if w.Ifname != "" {
		has := func(ct *Container) bool {
			return slices.ContainsFunc(ct.Endpoints, func(e Endpoint) bool { return e.Ifname == w.Ifname })
		}
		if list = slices.DeleteFunc(list, func(ct *Container) bool { return !has(ct) }); len(list) == 0 {
			return Selection{}, model.NotFoundf("container %s has no interface %s: see vswitch inspect %[1]s", w.Whole(), w.Ifname)
		}
	}
	if ct := list[0]; w.kind != byService && w.kind != byProject && w.kind != byLabel {
		switch {
		case d.Named(ct.Name) == ct:
			w.kind, w.value = byContainer, ct.Name
		case ct.Runtime != "" && len(d.namedSo(ct.Runtime, ct.Name)) == 1:
			w.kind, w.value = ct.Runtime, ct.Name
		default:
			w.kind, w.value = byID, ct.ID
		}
	}
	w.pinned = true
	return Selection{w, list}, nil
}

// fitting are the ready containers that a word fits, by name.
func (d *Directory) fitting(w Word) (list []*Container) {
	for ct := range d.Containers() {
		if w.Fits(ct) {
			list = append(list, ct)
		}
	}
	slices.SortFunc(list, func(a, b *Container) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list
}

// One is the container of a word as Select finds it, where one is needed.
func (d *Directory) One(text string) (*Container, error) {
	s, err := d.Select(text)
	if err != nil {
		return nil, err
	}
	return s.one()
}

func (s *Selection) one() (*Container, error) {
	if len(s.Containers) > 1 {
		return nil, model.Invalidf("%s is several containers: say which, %s", s.Word, strings.Join(tellApart(s.Containers), " or "))
	}
	return s.Containers[0], nil
}

// Container finds a ready container by name, also with its runtime as in docker:web, by
// address, by ID, its own or that of its runtime, or by the beginning of an ID that only one
// has; or the one of a service, a project or a label that is named as such.
func (d *Directory) Container(text string) (*Container, error) {
	w, err := ParseWord(text)
	if err != nil {
		return nil, err
	}
	if w.Ifname != "" {
		return nil, model.Invalidf("container %s: leave /%s out: all of the container is meant here", text, w.Ifname)
	}
	list, err := d.chosen(w)
	if err != nil {
		return nil, err
	}
	return (&Selection{w, list}).one()
}

// chosen are the ready containers of a word: of one that may be a name one, or an error, with
// those that have it where there are several.
func (d *Directory) chosen(w Word) (list []*Container, err error) {
	switch w.kind {
	case byService, byProject, byLabel:
		if list = d.fitting(w.Whole()); len(list) == 0 {
			return nil, model.NotFoundf("%s is no container's: see vswitch ps", w.Whole())
		}
		return list, nil
	}
	runtime := w.kind
	if runtime == byContainer {
		runtime = ""
	}
	list = d.namedSo(runtime, w.value)
	if len(list) == 0 && runtime == "" {
		if a, err := netip.ParseAddr(w.value); err == nil {
			o, _ := d.addrs.get(a.Unmap().WithZone(""))
			if ct := d.ByID(o.id); ct != nil && ct.Ready {
				return []*Container{ct}, nil
			}
			return nil, model.NotFoundf("address %s is no container's: see vswitch ps", a)
		}
		if list = d.beginning(w.value); len(list) > 1 {
			return list, model.Invalidf("container %s: several IDs begin so: give more of it", w.value)
		}
	}
	switch len(list) {
	case 0:
		if strings.Trim(w.value, "0123456789.") == "" && strings.Count(w.value, ".") == 3 {
			return nil, model.NotFoundf("%s is no address, and no container is called so: see vswitch ps", w.value)
		}
		return nil, model.NotFoundf("container %s is not attached: see vswitch ps", w.Whole())
	case 1:
		return list, nil
	}
	return list, model.Invalidf("container %s: several are called so: say which, %s", w.Whole(), strings.Join(tellApart(list), " or "))
}

// beginning are the ready containers of which an ID begins so, with enough of it.
func (d *Directory) beginning(word string) (list []*Container) {
	if len(word) < minPrefix {
		return nil
	}
	for ct := range d.Containers() {
		if ct.begins(word) {
			list = append(list, ct)
		}
	}
	return list
}

// namedSo are the ready containers of a name, of a runtime where one is named. Their own name
// comes before that of a piece.
func (d *Directory) namedSo(runtime, name string) (own []*Container) {
	var other []*Container
	ids, _ := d.names.get(name)
	for _, id := range ids {
		switch ct := d.ByID(id); {
		case ct == nil || !ct.Ready || runtime != "" && ct.Runtime != runtime:
		case ct.Name == name:
			own = append(own, ct)
		default:
			other = append(other, ct)
		}
	}
	if len(own) == 0 {
		return other
	}
	return own
}

// tellApart are words that name one of several containers each.
func tellApart(list []*Container) (words []string) {
	for _, ct := range list {
		same := func(o *Container) bool { return o != ct && o.Name == ct.Name }
		word := ct.Name
		if slices.ContainsFunc(list, same) {
			word = ct.Runtime + ":" + ct.Name
			if ct.Runtime == "" || slices.ContainsFunc(list, func(o *Container) bool { return same(o) && o.Runtime == ct.Runtime }) {
				word = cmp.Or(ct.RuntimeID, ct.ID)
				if word = word[:min(len(word), 12)]; ct.Runtime == "" {
					word += " (by hand)"
				} else {
					word += fmt.Sprintf(" (%s)", ct.Runtime)
				}
			}
		}
		words = append(words, word)
	}
	slices.Sort(words)
	if more := len(words) - 10; more > 0 {
		words = append(words[:10], fmt.Sprintf("%d more", more))
	}
	return words
}
