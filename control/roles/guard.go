package roles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
)

// maxBody is how much of a request is looked at for the name of what it changes.
const maxBody = 1 << 20

// needed is the role that a request asks for. Who may open the page can capture by it.
func needed(r *http.Request) Role {
	path := r.URL.Path
	switch {
	case strings.HasPrefix(path, "/v1/capture"):
		return Captures
	case r.Method != http.MethodGet && r.Method != http.MethodHead, strings.HasPrefix(path, "/v1/debug/"):
		return Changes
	case path == "/v1/page":
		return Captures
	}
	return Reads
}

var may = map[Role]string{Reads: "read", Captures: "capture", Changes: "make changes"}

// Guard hands h what the role in the context of a request allows, and refuses the rest. The log
// has a line for each request to change something: who asked, for what, and the answer.
func Guard(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		need := needed(r)
		if need == Changes && r.Method != http.MethodGet {
			object := nameIn(r)
			answer := &answer{ResponseWriter: w, status: http.StatusOK}
			defer func() {
				log.Info("asked to change", "by", readers.From(r.Context()).String(), "pid", readers.Process(r.Context()),
					"request", r.Method+" "+r.URL.Path, "name", object, "status", answer.status)
			}()
			w = answer
		}
		if has := from(r.Context()); has < need {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			json.NewEncoder(w).Encode(api.Error{Message: fmt.Sprintf("%s may not %s: run as root or join the group %s",
				readers.From(r.Context()), may[need], GroupOf(need))})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// nameIn is the name in a request's body, empty if there is none. The body can be read again.
func nameIn(r *http.Request) string {
	if r.Body == nil {
		return ""
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	r.Body = rest{io.MultiReader(bytes.NewReader(head), failed{err}, r.Body), r.Body}
	var in struct{ Name string }
	if json.Unmarshal(head, &in) != nil {
		return ""
	}
	return in.Name
}

// rest is a body of which the head has been read.
type rest struct {
	io.Reader
	io.Closer
}

// failed is what went wrong when it was.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

// answer remembers its status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
