// Package resolvconf writes the resolv.conf(5) of a container and puts it in the place of the one that its
// programs would find.
package resolvconf

import (
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// Path is where programs look for it.
const Path = "/etc/resolv.conf"

// File is what one says. The zero value says nothing.
type File struct{ Servers, Search, Options []string }

// Parse reads one. Of several search lists the last counts, and an older word for it, domain, too.
func Parse(text string) (f File) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			f.Servers = append(f.Servers, w[1])
		case "search":
			f.Search = w[1:]
		case "domain":
			f.Search = w[1:2]
		case "options":
			f.Options = append(f.Options, w[1:]...)
		}
	}
	return f
}

// Text writes it.
func (f File) Text() string {
	var b strings.Builder
	for _, s := range f.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	for _, list := range []struct {
		word  string
		words []string
	}{{"search", f.Search}, {"options", f.Options}} {
		if len(list.words) > 0 {
			b.WriteString(list.word + " " + strings.Join(list.words, " ") + "\n")
		}
	}
	return b.String()
}

// none is a domain that says that nothing is searched, as Docker and Podman have it.
const none = "."

// Of is the file of a container, beside what the host's says: it asks at the gateway of its first network that
// answers names, and searches that network before what the host searches, as a name without dots is
// otherwise first asked for in the host's domain, outside. The servers that it wants are asked by the gateway, and by
// itself where no gateway answers. ok is false where the host's file is as good as another.
func Of(ct api.Container, host File) (f File, ok bool) {
	at := slices.IndexFunc(ct.Endpoints, func(e api.Endpoint) bool { return len(e.NameServers) > 0 })
	var wants api.DNS
	if ct.DNS != nil {
		wants = *ct.DNS
	}
	if at < 0 && len(wants.Servers)+len(wants.Search)+len(wants.Options) == 0 {
		return f, false
	}
	f = File{Options: or(wants.Options, host.Options)}
	search := or(wants.Search, host.Search)
	if at < 0 {
		f.Servers = or(wants.Servers, host.Servers)
	} else if f.Servers = ct.Endpoints[at].NameServers; !slices.Equal(wants.Search, []string{none}) {
		f.Search = []string{ct.Endpoints[at].Network}
	}
	for _, domain := range search {
		if domain != none {
			f.Search = append(f.Search, domain)
		}
	}
	return f, true
}

func or(list, other []string) []string {
	if len(list) > 0 {
		return list
	}
	return other
}
