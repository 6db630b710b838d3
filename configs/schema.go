package configs

import (
	"encoding"
	"encoding/json"
	"net/netip"
	"reflect"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// Schema returns the JSON schema of the file (draft 2020-12), for editors. It
// knows keys, types, words and defaults; what depends on several keys only
// Validate knows.
func Schema() *jsonschema.Schema {
	s := objectSchema(reflect.TypeFor[Config](), reflect.ValueOf(Default()))
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "ivrbridge configuration"
	return s
}

func objectSchema(t reflect.Type, defaults reflect.Value) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type:                 "object",
		Properties:           map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
	}
	for _, f := range orderedFields(t) {
		var value reflect.Value
		if defaults.IsValid() {
			value = defaults.FieldByIndex(f.index)
		}
		sf := t.FieldByIndex(f.index)
		p := typeSchema(sf.Type, value, f.enum)
		p.Description = f.doc
		p.Default = defaultOf(value)
		s.Properties[f.name] = p
		s.PropertyOrder = append(s.PropertyOrder, f.name)
		if old := sf.Tag.Get("old"); old != "" {
			s.Properties[old] = &jsonschema.Schema{Type: p.Type, Deprecated: true, Description: "old name of " + f.name}
			s.PropertyOrder = append(s.PropertyOrder, old)
		}
	}
	return s
}

// typeSchema returns the schema of a type as it is written in YAML. Texts may be
// written without quotes, and then look like numbers.
func typeSchema(t reflect.Type, value reflect.Value, enum []string) *jsonschema.Schema {
	text := &jsonschema.Schema{Types: []string{"string", "number"}}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case reflect.TypeFor[Strings]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{text, {Type: "array", Items: text.CloneSchemas()}}}
	case reflect.TypeFor[Adapter]():
		return adapterSchema()
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[secret.Secret]():
		return text
	}
	if isText(t) {
		return text
	}
	switch t.Kind() {
	case reflect.Struct:
		if !value.IsValid() {
			value = defaultFor(t)
		}
		return objectSchema(t, value)
	case reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: typeSchema(t.Elem(), reflect.Value{}, enum)}
	case reflect.Map:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: typeSchema(t.Elem(), reflect.Value{}, nil)}
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case reflect.Int:
		return &jsonschema.Schema{Type: "integer"}
	case reflect.Float64:
		return &jsonschema.Schema{Type: "number"}
	default: // text, below
	}
	if len(enum) == 0 {
		return text
	}
	s := &jsonschema.Schema{Type: "string"}
	for _, word := range enum {
		s.Enum = append(s.Enum, word)
	}
	return s
}

// defaultFor returns the defaults of entries of a list.
func defaultFor(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[Trunk]():
		return reflect.ValueOf(DefaultTrunk())
	case reflect.TypeFor[Agent]():
		return reflect.ValueOf(DefaultAgent())
	}
	return reflect.Value{}
}

// adapterSchema leaves the settings to the provider.
func adapterSchema() *jsonschema.Schema {
	object := func() *jsonschema.Schema {
		return &jsonschema.Schema{
			Type:       "object",
			Properties: map[string]*jsonschema.Schema{"provider": {Type: "string", Description: "name of the adapter"}},
		}
	}
	s := object()
	s.Properties["fallback"] = &jsonschema.Schema{
		Type:        "array",
		Description: "tried in order when the provider fails",
		Items:       &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, object()}},
	}
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, s}}
}

// defaultOf returns a default in JSON where it is a value or a list of texts
// that says something.
func defaultOf(v reflect.Value) json.RawMessage {
	if !v.IsValid() || v.IsZero() && v.Kind() != reflect.Bool && v.Kind() != reflect.Int {
		return nil
	}
	out := v.Interface()
	switch x := out.(type) {
	case time.Duration:
		out = x.String()
	case secret.Secret:
		out = x.Reveal() // a default is no secret
	case []string, []Listen:
	case encoding.TextMarshaler:
	default:
		if k := v.Kind(); k == reflect.Struct || k == reflect.Slice || k == reflect.Map {
			return nil
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

// isText reports whether a type is written as one word.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
