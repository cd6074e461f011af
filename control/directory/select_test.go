package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// composed is one interface of a container of a project.
func composed(id string, number int, name, project, service string, aliases ...string) Container {
	ct := piece(id, number, name, KeyOfRuntime+name)
	ct.Project, ct.Services = project, append([]string{service}, aliases...)
	ct.Labels = map[string]string{api.LabelProject: project, "app.example/tier": "front"}
	return ct
}

// A word finds what it says, and a container before a service or a project of that name.
func TestSelect(t *testing.T) {
	var l Live
	l.PutContainer(composed("aaaaaa", 0, "shop-web-1", "shop", "web", "www"))
	l.PutContainer(composed("bbbbbb", 1, "shop-web-1", "shop", "web"))
	l.PutContainer(composed("cccccc", 2, "shop-web-2", "shop", "web"))
	l.PutContainer(composed("dddddd", 3, "blog-web-1", "blog", "web"))
	byHand := container("eeeeee", "db", 4)
	byHand.RuntimeID = ""
	byHand.Services = []string{"api"}
	byHand.Endpoints[0].Aliases = []string{"store"}
	l.PutContainer(byHand)
	l.PutContainer(composed("ffffff", 5, "shop-db-1", "shop", "db", "api"))
	for word, want := range map[string]string{
		"shop-web-1": "aaaaaa", "docker:shop-web-1": "aaaaaa", "container:db": "eeeeee", addrOf(1).String(): "aaaaaa", "bbbbbb": "aaaaaa",
		"service:web": "dddddd aaaaaa cccccc", "web": "dddddd aaaaaa cccccc", "www": "aaaaaa", "service:www": "aaaaaa",
		"project:shop": "ffffff aaaaaa cccccc", "shop": "ffffff aaaaaa cccccc", "shop/eth1": "aaaaaa", "shop-web-1/eth1": "aaaaaa",
		"db": "eeeeee", "service:db": "ffffff", "api": "eeeeee ffffff", "db/eth0": "eeeeee",
		"store": "eeeeee", "service:store": "eeeeee",
		"label:app.example/tier": "dddddd ffffff aaaaaa cccccc", "label:app.example/tier=front": "dddddd ffffff aaaaaa cccccc",
		"label:" + api.LabelProject + "=blog": "dddddd",
		// Nothing is so.
		"project:web": "", "service:shop": "", "label:app.example/tier=back": "", "label:tier": "", "podman:shop-web-1": "", "docker:web": "", "none": "",
		"project:": "", "": "", "label:": "", "label:=x": "", ":web": "", "web/": "", "shop-web-1/eth9": "", "10.88.7.7": "",
	} {
		s, err := l.Now().Select(word)
		var got []string
		for _, ct := range s.Containers {
			got = append(got, ct.ID)
			if !s.Fits(ct) {
				t.Errorf("%s: what it was found as does not fit %s", word, ct.Name)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(strings.Fields(want)) || (err == nil) != (want != "") {
			t.Errorf("%s: %v, %v, want %s", word, got, err, want)
		}
	}
	_, err := l.Now().One("web")
	if !errors.Is(err, api.ErrInvalid) || !strings.HasSuffix(err.Error(), "service:web is several containers: say which, blog-web-1 or shop-web-1 or shop-web-2") {
		t.Errorf("one of web: %v", err)
	}
	// Who changes a container names it.
	for _, word := range []string{"web", "shop", "www"} {
		if _, err := l.Now().Container(word); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("container %s: %v", word, err)
		}
		if _, err := l.Now().Chosen(word); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("chosen %s: %v", word, err)
		}
	}
	if ct, err := l.Now().Container("service:db"); err != nil || ct.ID != "ffffff" {
		t.Errorf("service:db is %+v, %v", ct, err)
	}
	if s, err := l.Now().Chosen("project:shop"); err != nil || len(s.Ports()) != 4 {
		t.Errorf("project:shop is %+v, %v", s, err)
	}
	if s, err := l.Now().Select("shop-web-1/eth1"); err != nil || !slices.Equal(s.Ports(), l.Now().Ports(false)[1:2]) {
		t.Errorf("an interface is %v, %v", s, err)
	}
}

// What a word was found to be fits what comes later, and no namesake.
func TestSelectionStays(t *testing.T) {
	var l Live
	l.PutContainer(composed("aaaaaa", 0, "web", "shop", "web"))
	byHand := container("eeeeee", "web", 4)
	byHand.RuntimeID = ""
	l.PutContainer(byHand)
	docker, err1 := l.Now().Select("docker:web")
	hand, err2 := l.Now().Select("eeeeee")
	service, err3 := l.Now().Select("service:web")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	l.DropContainer("aaaaaa")
	l.PutContainer(composed("ababab", 6, "web", "shop", "web")) // as after docker restart
	later := *l.Now().ByID("ababab")
	for _, tc := range []struct {
		s    Selection
		ct   *Container
		want bool
	}{
		{docker, &later, true}, {docker, &byHand, false}, {hand, &byHand, true}, {hand, &later, false}, {service, &later, true}, {service, &byHand, false},
	} {
		if tc.s.Fits(tc.ct) != tc.want {
			t.Errorf("%s fits %s: %v", tc.s.Word, tc.ct.ID, !tc.want)
		}
	}
}
