package configs

import (
	"encoding"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// A decoder fills Go values from an expanded tree and collects every mistake
// instead of stopping at the first.
type decoder struct {
	getenv   func(string) string
	problems Problems
	lines    map[string]int
	broken   map[string]bool     // paths of values that could not be decoded
	seen     map[*yaml.Node]bool // complained about; nodes inherited by several agents come by again
	unknown  int                 // keys that the struct does not have, among the problems
}

func newDecoder(getenv func(string) string) *decoder {
	return &decoder{getenv: getenv, lines: map[string]int{}, broken: map[string]bool{}, seen: map[*yaml.Node]bool{}}
}

// A nodeDecoder decodes itself.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

func (d *decoder) complain(n *yaml.Node, path, format string, args ...any) {
	d.note(n, path, Error, format, args...)
}

func (d *decoder) note(n *yaml.Node, path string, s Severity, format string, args ...any) {
	if s == Error {
		d.broken[path] = true
	}
	if d.seen[n] {
		return
	}
	d.seen[n] = true
	d.problems = append(d.problems, Problem{Line: n.Line, Path: path, Message: fmt.Sprintf(format, args...), Severity: s})
}

// value fills v, which is settable, from n. Null leaves it as it is. enum holds
// the words that a string may be.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, enum []string) {
	d.lines[path] = n.Line
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, enum)
		return
	}
	if d.special(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, enum)
	case reflect.Interface:
		d.anything(n, v, path)
	default:
		d.scalar(n, v, path, enum)
	}
}

// special decodes types that know better than their kind. It reports whether it
// did.
func (d *decoder) special(n *yaml.Node, v reflect.Value, path string) bool {
	switch p := v.Addr().Interface().(type) {
	case nodeDecoder:
		p.decodeNode(d, n, path)
		return true
	case yaml.Unmarshaler:
		if err := p.UnmarshalYAML(n); err != nil {
			d.complain(n, path, "%v", err)
		}
		return true
	}
	var set func(string) error
	switch t := v.Addr().Interface().(type) {
	case *time.Duration:
		set = into(t, parseDuration)
	case *netip.Prefix:
		set = into(t, parsePrefix)
	case *secret.Secret:
		set = into(t, func(s string) (secret.Secret, error) { return secret.Parse(s, d.getenv) })
	case encoding.TextUnmarshaler:
		set = func(s string) error { return t.UnmarshalText([]byte(s)) }
	default:
		return false
	}
	if n.Kind != yaml.ScalarNode {
		d.complain(n, path, "wants one value, this is %s", kindName(n))
		return true
	}
	if err := set(n.Value); err != nil {
		d.complain(n, path, "%v", err)
	}
	return true
}

// into returns a function that stores what parse makes of a text, and leaves *t
// as it is when parse fails.
func into[T any](t *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		value, err := parse(s)
		if err == nil {
			*t = value
		}
		return err
	}
}

// brokenAt reports whether a value, or a block around it, could not be decoded.
func (d *decoder) brokenAt(path string) bool {
	for path != "" {
		if d.broken[path] {
			return true
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.broken[""]
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.complain(n, path, "wants keys and values, this is %s", kindName(n))
		return
	}
	fields := fieldsOf(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := fields[key.Value]
		if !ok {
			d.unknown++
			d.complain(key, join(path, key.Value), "%s", unknownKey(key.Value, fields))
			continue
		}
		if f.name != key.Value {
			if lookup(n.Content, f.name) != nil {
				d.complain(key, join(path, key.Value), "is the old name of %s, which is there too: remove one", f.name)
				continue
			}
			d.note(key, join(path, key.Value), Warning, "is the old name of %s", f.name)
		}
		d.value(value, v.FieldByIndex(f.index), join(path, f.name), f.enum)
	}
}

func unknownKey(key string, fields map[string]field) string {
	names := slices.Sorted(maps.Keys(fields))
	if near := nearest(key, names); near != "" {
		return "unknown key, write " + near
	}
	return "unknown key, known here: " + strings.Join(names, ", ")
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.complain(n, path, "wants keys and values, this is %s", kindName(n))
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		d.complain(n, path, "cannot be configured")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		at := join(path, key.Value)
		if !d.clean(key, at) || isNull(n.Content[i+1]) {
			continue
		}
		d.value(n.Content[i+1], item, at, nil)
		out.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
	}
	setNonEmpty(v, out)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, enum []string) {
	items := n.Content
	switch {
	case n.Kind == yaml.SequenceNode:
	case n.Kind == yaml.ScalarNode && v.Type() == reflect.TypeFor[Strings]():
		items = []*yaml.Node{n}
	default:
		d.complain(n, path, "wants a list, this is %s: write it in [ ]", kindName(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	for i, item := range items {
		if isNull(item) {
			d.complain(item, index(path, i), "is empty")
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(item, e, index(path, i), enum)
		out = reflect.Append(out, e)
	}
	setNonEmpty(v, out)
}

// setNonEmpty stores a map or a slice, nil for an empty one: {} and [] in a
// document mean what their absence means in code.
func setNonEmpty(v, out reflect.Value) {
	if out.Len() == 0 {
		out = reflect.Zero(v.Type())
	}
	v.Set(out)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, enum []string) {
	if n.Kind != yaml.ScalarNode {
		d.complain(n, path, "wants one value, this is %s", kindName(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		// Numbers need no quotes: +14155550100 is text as it stands.
		if !d.clean(n, path) {
			return
		}
		if len(enum) > 0 && !slices.Contains(enum, n.Value) {
			d.complain(n, path, "%q is unknown, write one of %s", n.Value, strings.Join(enum, ", "))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if err := n.Decode(&b); err != nil {
			d.complain(n, path, "%q is neither true nor false", n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		tag, float := n.ShortTag(), v.CanFloat()
		if tag != "!!int" && tag != "!!float" {
			d.complain(n, path, "%q is no number", n.Value)
			return
		}
		if tag == "!!float" && !float {
			d.complain(n, path, "%q does not fit, write a %s", n.Value, numberName(v.Kind()))
			return
		}
		if err := n.Decode(v.Addr().Interface()); err != nil {
			d.complain(n, path, "%q does not fit, write a %s", n.Value, numberName(v.Kind()))
		}
	default:
		d.complain(n, path, "cannot be configured")
	}
}

// anything decodes n into an empty interface.
func (d *decoder) anything(n *yaml.Node, v reflect.Value, path string) {
	if v.NumMethod() != 0 {
		d.complain(n, path, "cannot be configured")
		return
	}
	var out any
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.mapping(n, reflect.ValueOf(&m).Elem(), path)
		out = m
	case yaml.SequenceNode:
		l := []any{}
		d.list(n, reflect.ValueOf(&l).Elem(), path, nil)
		out = l
	default:
		if err := n.Decode(&out); err != nil {
			d.complain(n, path, "%v", err)
			return
		}
	}
	if out != nil {
		v.Set(reflect.ValueOf(out))
	}
}

// clean reports whether a scalar is free of control characters other than tab
// and line ends: they would reach SIP headers, logs and terminals.
func (d *decoder) clean(n *yaml.Node, path string) bool {
	bad := func(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' || r == 0x7f }
	if strings.ContainsFunc(n.Value, bad) {
		d.complain(n, path, "contains a control character")
		return false
	}
	return true
}

// A field is one key of a struct.
type field struct {
	name  string
	index []int
	enum  []string
	doc   string
}

// fieldsOf returns the keys of a struct, each under its name and under its old
// one: the yaml tag, else the json tag, else the lower-case name. Embedded
// structs without a name belong to the outer one.
func fieldsOf(t reflect.Type) map[string]field {
	out := map[string]field{}
	for _, f := range orderedFields(t) {
		out[f.name] = f
		if old := t.FieldByIndex(f.index).Tag.Get("old"); old != "" {
			out[old] = f
		}
	}
	return out
}

func orderedFields(t reflect.Type) []field {
	var out []field
	for _, sf := range reflect.VisibleFields(t) {
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok {
			tag = sf.Tag.Get("json")
		}
		name, options, _ := strings.Cut(tag, ",")
		if !sf.IsExported() || name == "-" {
			continue
		}
		if sf.Anonymous && name == "" || strings.Contains(options, "inline") {
			continue // its fields are visible themselves
		}
		if name == "" {
			name = strings.ToLower(sf.Name)
		}
		f := field{name: name, index: sf.Index, doc: sf.Tag.Get("doc")}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		out = append(out, f)
	}
	return out
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("the value %q", n.Value)
	}
}

func numberName(k reflect.Kind) string {
	switch k {
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number that is not negative"
	default:
		return "whole number"
	}
}
