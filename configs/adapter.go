package configs

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// None is the provider of an agent that has no recogniser: keys only.
const None = "none"

// An Adapter is the block of a recogniser or a synthesiser: the provider's name
// and settings that only the provider's adapter understands.
type Adapter struct {
	Provider string
	Fallback []Adapter // tried in order when the provider fails

	node   *yaml.Node // the settings without provider and fallback
	path   string
	getenv func(string) string
}

// NewAdapter returns the block that the file would hold with these settings.
// Values are strings, numbers, booleans, and lists and maps of them; secrets are
// references such as env:NAME.
func NewAdapter(provider string, settings map[string]any) Adapter {
	a := Adapter{Provider: provider, node: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}}
	// A map of plain values always encodes.
	if err := a.node.Encode(settings); err != nil || a.node.Kind != yaml.MappingNode {
		a.node = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	return a
}

// Decode returns what fills the provider's configuration struct from the block.
// It rejects unknown keys; its error is an *[InvalidError] with lines and paths.
func (a Adapter) Decode() registry.Decode {
	return func(into any) error {
		v := reflect.ValueOf(into)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return fmt.Errorf("decode adapter: %T is no pointer", into)
		}
		if a.node == nil || len(a.node.Content) == 0 {
			return nil
		}
		d := newDecoder(a.getenv)
		d.value(a.node, v.Elem(), a.path, nil)
		errs := d.problems.Errors()
		if len(errs) == 0 {
			return nil
		}
		return &InvalidError{Problems: errs.sorted(), filled: len(errs) == d.unknown}
	}
}

// Settings returns the settings as they are written, secrets as references.
func (a Adapter) Settings() map[string]any {
	out := map[string]any{}
	if a.node != nil {
		newDecoder(nil).value(a.node, reflect.ValueOf(&out).Elem(), "", nil)
	}
	return out
}

// All returns the adapter and its fallbacks in the order in which they are
// tried.
func (a Adapter) All() []Adapter {
	first := a
	first.Fallback = nil
	return append([]Adapter{first}, a.Fallback...)
}

// MarshalYAML implements yaml.Marshaler.
func (a Adapter) MarshalYAML() (any, error) {
	out := a.Settings()
	out["provider"] = a.Provider
	if len(a.Fallback) > 0 {
		out["fallback"] = a.Fallback
	}
	return out, nil
}

// decodeNode lays n over the settings that are there, where both mean the same
// provider. A single word is a provider with its own defaults.
func (a *Adapter) decodeNode(d *decoder, n *yaml.Node, path string) {
	a.path, a.getenv = path, d.getenv
	if n.Kind == yaml.ScalarNode {
		if d.clean(n, path) && n.Value != a.Provider {
			*a = NewAdapter(n.Value, nil)
			a.path, a.getenv = path, d.getenv
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		d.complain(n, path, "wants keys and values, this is %s", kindName(n))
		return
	}
	var name string
	if p := child(n, "provider"); p != nil {
		d.value(p, reflect.ValueOf(&name).Elem(), join(path, "provider"), nil)
	}
	if child(n, "provider") != nil && name != a.Provider {
		*a = NewAdapter(name, nil)
		a.path, a.getenv = path, d.getenv
	}
	if f := child(n, "fallback"); f != nil {
		a.Fallback = nil
		d.value(f, reflect.ValueOf(&a.Fallback).Elem(), join(path, "fallback"), nil)
		for i, b := range a.Fallback {
			switch at := index(join(path, "fallback"), i); {
			case b.Provider == "":
				d.complain(f, at, "names no provider")
			case len(b.Fallback) > 0:
				d.complain(f, at, "has a fallback of its own: write all of them in one list")
			}
		}
	}
	settings := *n
	settings.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; k != "provider" && k != "fallback" {
			settings.Content = append(settings.Content, n.Content[i], n.Content[i+1])
		}
	}
	a.node = overlay(a.node, &settings)
}
