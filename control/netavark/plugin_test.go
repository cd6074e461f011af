package netavark

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
)

// netavark prints an error's text on the terminal of whoever started the container.
func TestS72ErrorsForPodman(t *testing.T) {
	var out bytes.Buffer
	Fail(&out, errors.Join(errors.New("network \x1b]0;pwn\x07: no"), errors.New("label \u009b31m\u202e")))
	var got struct{ Error string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(got.Error, func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(got.Error, `\x1b]0;pwn\x07: no; label \u009b31m\u202e`) {
		t.Errorf("netavark prints %q", got.Error)
	}
}
