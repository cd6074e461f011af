package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/vswitch/vswitch/control/visible"
)

// object is an object of the API for a template: its fields by the names that they have in
// JSON and in Go, as {{.name}} and {{.Name}}. Under whole is the object itself.
type object map[string]any

const whole = ""

// asFields makes objects of all structures in v, however deep.
func asFields(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return asFields(v.Elem())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = asFields(v.Index(i))
		}
		return list
	case reflect.Map:
		if k := v.Type().Elem().Kind(); k != reflect.Struct && k != reflect.Slice {
			return v.Interface() // labels: what index does not find is empty
		}
		m := object{whole: v.Interface()}
		for _, k := range v.MapKeys() {
			m[fmt.Sprint(k.Interface())] = asFields(v.MapIndex(k))
		}
		return m
	case reflect.Struct:
		if _, is := v.Interface().(fmt.Stringer); is { // a time
			return v.Interface()
		}
		m := object{whole: v.Interface()}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" {
				continue
			}
			value := asFields(v.Field(i))
			if f.Anonymous && name == "" {
				inner, _ := value.(object)
				delete(inner, whole)
				maps.Copy(m, inner)
				continue
			}
			m[f.Name] = value
			if name != "" {
				m[name] = value
			}
		}
		return m
	}
	return v.Interface()
}

// String is what {{.}} prints.
func (f object) String() string { return toJSON(f) }

// words are the functions of a template, as docker has them.
var words = template.FuncMap{
	"json":  toJSON,
	"join":  func(list any, sep string) string { return strings.Join(texts(list), sep) },
	"split": strings.Split,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
}

// texts are the elements of a list.
func texts(list any) (out []string) {
	for v, i := reflect.ValueOf(list), 0; v.Kind() == reflect.Slice && i < v.Len(); i++ {
		out = append(out, fmt.Sprint(v.Index(i).Interface()))
	}
	return out
}

func toJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(original(v)); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// original is v as the API has it.
func original(v any) any {
	switch v := v.(type) {
	case object:
		return v[whole]
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = original(v[i])
		}
		return list
	}
	return v
}

// parseFormat reads a template. Shells leave \t and \n as they are: they mean the characters.
func parseFormat(text string) (*template.Template, error) {
	if strings.HasPrefix(text, "table ") {
		return nil, errors.New(`leave "table" out before a template`)
	}
	t, err := template.New("").Option("missingkey=error").Funcs(words).Parse(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text))
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return t, nil
}

var noField = regexp.MustCompile(`map has no entry for key "(.*)"`)

// printTemplate writes v by a template: a list element by element, each with a line break. The
// text of strangers in it cannot act on the terminal.
func printTemplate(w io.Writer, t *template.Template, v any) error {
	list := []any{asFields(reflect.ValueOf(v))}
	if l, is := list[0].([]any); is {
		list = l
	}
	for _, one := range list {
		var b strings.Builder
		if err := t.Execute(&b, one); err != nil {
			if m := noField.FindStringSubmatch(err.Error()); m != nil {
				err = fmt.Errorf("there is no field %q: {{json .}} prints all there are", m[1])
				if f, is := one.(object); is {
					err = fmt.Errorf("there is no field %q here: choose of %s", m[1], strings.Join(namesOf(f), ", "))
				}
			}
			return fmt.Errorf("--format: %w", err)
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			columns := strings.Split(line, "\t")
			for i := range columns {
				columns[i] = visible.Text(columns[i])
			}
			if _, err := io.WriteString(w, strings.Join(columns, "\t")+"\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesOf are the names of fields in JSON.
func namesOf(f object) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != whole && name == strings.ToLower(name) {
			names = append(names, name)
		}
	}
	return names
}
