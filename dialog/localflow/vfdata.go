package localflow

import (
	"math"
	"strconv"
)

// object is a JSON object of a project file. Any member may be missing, or of
// another type than its readers expect: then they get the zero value.
type object map[string]any

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

func (o object) flag(key string) bool {
	b, _ := o[key].(bool)
	return b
}

// number returns a member that is a number, or a text that reads as one.
func (o object) number(key string) (float64, bool) {
	switch v := o[key].(type) {
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

func (o object) list(key string) []any {
	l, _ := o[key].([]any)
	return l
}

func (o object) object(key string) object {
	m, _ := o[key].(map[string]any)
	return m
}

func (o object) objects(key string) []object {
	var out []object
	for _, v := range o.list(key) {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func (o object) texts(key string) []string {
	var out []string
	for _, v := range o.list(key) {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// vfPort is a way out of a node.
type vfPort struct {
	target string // id of a node; empty: connected to nothing
	event  string // old custom actions name their path here
}

// vfPorts are all ways out of a node.
type vfPorts struct {
	builtIn map[string]vfPort // next, else, no-reply, fail
	keys    map[string]vfPort
	dynamic []vfPort
}

// named returns the target of a port by its name, which newer steps keep among
// the keys.
func (p vfPorts) named(name string) string {
	if t := p.builtIn[name].target; t != "" {
		return t
	}
	return p.keys[name].target
}

// next returns the target of the port that leads on, whatever it is called.
func (p vfPorts) next() string {
	for _, name := range []string{"next", "default", "__vf__default"} {
		if t := p.named(name); t != "" {
			return t
		}
	}
	return ""
}

// at returns the target of dynamic port i.
func (p vfPorts) at(i int) string {
	if i < 0 || i >= len(p.dynamic) {
		return ""
	}
	return p.dynamic[i].target
}

func readPort(o object) vfPort {
	return vfPort{target: o.text("target"), event: o.object("data").object("event").text("type")}
}

// vfElseFirst are the steps whose first port, in files of 2021 and before, is the
// one for no match.
var vfElseFirst = map[string]bool{"interaction": true, "buttons": true, "if": true, "ifV2": true}

// vfDynamicOnly are the steps whose ports all are paths of their own.
var vfDynamicOnly = map[string]bool{"trace": true, "random": true, "randomV2": true, "channel_action": true}

// readPorts reads both forms: portsV2, and the list that was before.
func readPorts(n *vfNode) vfPorts {
	p := vfPorts{builtIn: make(map[string]vfPort), keys: make(map[string]vfPort)}
	if v2 := n.data.object("portsV2"); v2 != nil {
		for name := range v2.object("builtIn") {
			p.builtIn[name] = readPort(v2.object("builtIn").object(name))
		}
		for key := range v2.object("byKey") {
			p.keys[key] = readPort(v2.object("byKey").object(key))
		}
		for _, o := range v2.objects("dynamic") {
			p.dynamic = append(p.dynamic, readPort(o))
		}
		return p
	}
	for _, o := range n.data.objects("ports") {
		name := o.text("type")
		if name == "" && !vfDynamicOnly[n.typ] && len(p.dynamic) == 0 {
			leading := []string{"next", "fail"}
			if vfElseFirst[n.typ] {
				leading = []string{"else"}
			}
			for _, l := range leading {
				if _, taken := p.builtIn[l]; !taken {
					name = l
					break
				}
			}
		}
		if name == "" || vfDynamicOnly[n.typ] {
			p.dynamic = append(p.dynamic, readPort(o))
			continue
		}
		p.builtIn[name] = readPort(o)
	}
	return p
}
