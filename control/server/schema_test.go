package server

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is the part of JSON Schema that docs/openapi.yaml uses.
type schema struct {
	Ref                  string             `yaml:"$ref"`
	Type                 string             `yaml:"type"`
	Format               string             `yaml:"format"`
	Description          string             `yaml:"description"`
	Enum                 []string           `yaml:"enum"`
	Nullable             bool               `yaml:"nullable"`
	Minimum              *float64           `yaml:"minimum"`
	Maximum              *float64           `yaml:"maximum"`
	Items                *schema            `yaml:"items"`
	Required             []string           `yaml:"required"`
	Properties           map[string]*schema `yaml:"properties"`
	AdditionalProperties any                `yaml:"additionalProperties"` // false, or a schema of values
}

func (d *document) resolve(s *schema) (*schema, string) {
	name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
	if !ok {
		return s, ""
	}
	return d.Components.Schemas[name], name
}

// example is a value with everything that a schema allows. It notes in used which
// named schemas it met.
func (d *document) example(t *testing.T, s *schema, used map[string]bool) any {
	t.Helper()
	s, name := d.resolve(s)
	if s == nil {
		t.Fatalf("schema %s is nowhere", name)
	}
	if name != "" {
		used[name] = true
	}
	switch s.Type {
	case "object":
		v := map[string]any{}
		for key, p := range s.Properties {
			v[key] = d.example(t, p, used)
		}
		if s.Properties == nil {
			if s.AdditionalProperties == nil {
				t.Errorf("schema %s: an object without properties", name)
			}
			v["key"] = d.value(t, s)
		} else if s.AdditionalProperties != false {
			t.Errorf("schema %s: additionalProperties is not false", name)
		}
		for _, key := range s.Required {
			if s.Properties[key] == nil {
				t.Errorf("schema %s requires %s, which it does not have", name, key)
			}
		}
		return v
	case "array":
		return []any{d.example(t, s.Items, used)}
	case "string":
		if s.Format == "date-time" {
			return time.Unix(1700000000, 0).UTC().Format(time.RFC3339)
		}
		if len(s.Enum) > 0 {
			return s.Enum[0]
		}
		return "text"
	case "integer":
		return 7
	case "number":
		return 1.5
	case "boolean":
		return true
	}
	t.Fatalf("schema %s: type %q", name, s.Type)
	return nil
}

// value is an example of what a map holds.
func (d *document) value(t *testing.T, s *schema) any {
	t.Helper()
	m, _ := s.AdditionalProperties.(map[string]any)
	kind, _ := m["type"].(string)
	return d.example(t, &schema{Type: kind}, map[string]bool{})
}

// check says what of a value a schema does not allow.
func (d *document) check(s *schema, v any, at string) (problems []string) {
	s, _ = d.resolve(s)
	bad := func(format string, a ...any) { problems = append(problems, at+" "+fmt.Sprintf(format, a...)) }
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			bad("is an object, documented as %s", s.Type)
			return problems
		}
		for key, value := range v {
			p := s.Properties[key]
			switch {
			case p != nil:
				problems = append(problems, d.check(p, value, at+"."+key)...)
			case s.AdditionalProperties == false:
				bad("has %s, which is not documented", key)
			}
		}
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				bad("lacks %s", key)
			}
		}
	case []any:
		if s.Type != "array" {
			bad("is a list, documented as %s", s.Type)
			return problems
		}
		for i := range v {
			problems = append(problems, d.check(s.Items, v[i], at+"[]")...)
		}
	case string:
		if s.Type != "string" {
			bad("is a text, documented as %s", s.Type)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			bad("is the number %v, documented as %s", v, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			bad("is a truth value, documented as %s", s.Type)
		}
	case nil:
		if !s.Nullable {
			bad("is null")
		}
	}
	return problems
}

// checkRequired holds what a schema requires of an answer against what its type
// never leaves out.
func (d *document) checkRequired(t *testing.T, s *schema, typ reflect.Type) {
	t.Helper()
	s, name := d.resolve(s)
	switch typ.Kind() {
	case reflect.Pointer:
		d.checkRequired(t, s, typ.Elem())
	case reflect.Slice:
		d.checkRequired(t, s.Items, typ.Elem())
	case reflect.Struct:
		if s.Type != "object" {
			return // a time
		}
		var always []string
		for i := range typ.NumField() {
			key, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(options, "omit") {
				always = append(always, key)
			}
			d.checkRequired(t, s.Properties[key], typ.Field(i).Type)
		}
		slices.Sort(always)
		if required := slices.Sorted(slices.Values(s.Required)); !slices.Equal(required, always) {
			t.Errorf("schema %s requires %v, %v always has %v", name, required, typ, always)
		}
	}
}

// checkQuery holds a query against an operation's parameters, either way.
func (d *document) checkQuery(t *testing.T, op *operation, query string) {
	t.Helper()
	sent, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			documented = append(documented, p.Name)
		}
	}
	slices.Sort(documented)
	if got := slices.Sorted(maps.Keys(sent)); !slices.Equal(documented, got) {
		t.Errorf("query parameters %v are documented, the client sends %v", documented, got)
	}
}

// keys are the paths to everything in a value.
func keys(v any, at string) (list []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			list = append(append(list, at+"."+key), keys(value, at+"."+key)...)
		}
	case []any:
		for i := range v {
			list = append(list, keys(v[i], at+"[]")...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
