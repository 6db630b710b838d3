package localflow

import (
	"fmt"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
)

// names are what blocks, variables, intents and entities may be called.
var names = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// Names of blocks that every flow has: the exit, and a path connected to nothing.
const (
	blockEnd     = "end"
	blockNowhere = "nowhere"
)

func (r *reader) document(root *yaml.Node) {
	f := r.flow
	start := "start"
	r.fields(root, "the flow", map[string]func(*yaml.Node){
		"name":         r.text(&f.Name, "name"),
		"version":      r.text(&f.version, "version"),
		"diagram":      r.text(&f.diagram, "diagram"),
		"start":        r.text(&start, "start"),
		"keys":         r.texts(&f.keys, "keys"),
		"environments": r.texts(&f.environments, "environments"),
		"modern":       r.flag(&f.modern, "modern"),
		"variables": func(n *yaml.Node) {
			r.pairs(n, "variables", func(k, v *yaml.Node) { f.variables[k.Value] = r.value(v) })
		},
		"intents":  func(n *yaml.Node) { r.pairs(n, "intents", r.intent) },
		"commands": func(n *yaml.Node) { r.list(n, "commands", r.command) },
		"events": func(n *yaml.Node) {
			r.pairs(n, "events", func(k, v *yaml.Node) {
				var block string
				r.text(&block, "the event's block")(v)
				f.events[k.Value] = block
			})
		},
		"no_reply": func(n *yaml.Node) {
			r.fields(n, "no_reply", map[string]func(*yaml.Node){
				"prompt":  r.text(&f.global.noReply, "prompt"),
				"timeout": r.duration(&f.global.noReplyTimeout, "timeout"),
			})
		},
		"no_match": r.text(&f.global.noMatch, "no_match"),
		"faults":   func(n *yaml.Node) { r.list(n, "faults", r.fault) },
		"blocks":   func(n *yaml.Node) { r.pairs(n, "blocks", r.readBlock) },
	})
	if f.version == "" {
		f.version = "local"
	}
	if f.diagram == "" {
		f.diagram = "main"
	}
	b := f.blocks[start]
	if b == nil {
		r.fail(root, "there is no block %q to start with%s", start, nearest(start, f.blocks))
		return
	}
	if f.start = b.first(); f.start == nil {
		r.fail(root, "the block %q has no steps to start with", start)
	}
}

func (r *reader) intent(key, value *yaml.Node) {
	in := &intent{name: key.Value, line: key.Line}
	var phrases, patterns []string
	if value.Kind == yaml.MappingNode {
		r.fields(value, "the intent "+key.Value, map[string]func(*yaml.Node){
			"phrases":  r.texts(&phrases, "phrases"),
			"patterns": r.texts(&patterns, "patterns"),
			"entities": func(n *yaml.Node) {
				r.pairs(n, "entities", func(k, v *yaml.Node) { in.entities = append(in.entities, r.entity(k, v)) })
			},
		})
	} else {
		r.texts(&phrases, "phrases")(value)
	}
	for _, p := range phrases {
		ph, err := parsePhrase(p, in.entities)
		if err != nil {
			r.fail(value, "intent %s: %v", key.Value, err)
			continue
		}
		in.phrases = append(in.phrases, ph)
	}
	for _, p := range patterns {
		re, err := regexp.Compile("(?i)^(?:" + p + ")$")
		if err != nil {
			r.fail(value, "intent %s: the pattern %q is no regular expression: %v", key.Value, p, err)
			continue
		}
		in.phrases = append(in.phrases, phrase{regex: re})
	}
	r.flow.intents[in.name] = in
	r.flow.intentOrder = append(r.flow.intentOrder, in.name)
}

func (r *reader) entity(key, value *yaml.Node) entity {
	e := entity{name: key.Value, values: make(map[string][]string)}
	if !names.MatchString(key.Value) {
		r.fail(key, "an entity cannot be called %q", key.Value)
	}
	if value.Tag == "!!null" {
		return e
	}
	r.fields(value, "the entity "+key.Value, map[string]func(*yaml.Node){
		"prompt":  r.text(&e.prompt, "prompt"),
		"pattern": r.regex(&e.regex, "pattern"),
		"values": func(n *yaml.Node) {
			if n.Kind == yaml.SequenceNode {
				r.texts(&e.order, "values")(n)
				return
			}
			r.pairs(n, "values", func(k, v *yaml.Node) {
				var synonyms []string
				if v.Tag != "!!null" {
					r.texts(&synonyms, "synonyms")(v)
				}
				e.order = append(e.order, k.Value)
				e.values[k.Value] = synonyms
			})
		},
	})
	return e
}

func (r *reader) command(n *yaml.Node) {
	var c command
	var jump, push string
	r.fields(n, "a command", map[string]func(*yaml.Node){
		"intent": r.text(&c.intent, "intent"),
		"goto":   r.text(&jump, "goto"),
		"call":   r.text(&push, "call"),
	})
	if (jump == "") == (push == "") {
		r.fail(n, "a command needs either goto or call")
		return
	}
	c.block, c.push = jump+push, push != ""
	r.flow.commands = append(r.flow.commands, c)
}

func (r *reader) fault(n *yaml.Node) {
	var f Fault
	r.fields(n, "a fault", map[string]func(*yaml.Node){
		"turn":        r.integer(&f.Turn, "turn"),
		"user":        r.text(&f.User, "user"),
		"times":       r.integer(&f.Times, "times"),
		"delay":       r.duration(&f.Delay, "delay"),
		"status":      r.integer(&f.Status, "status"),
		"body":        func(n *yaml.Node) { var s string; r.text(&s, "body")(n); f.Body = &s },
		"cut":         func(n *yaml.Node) { var i int; r.integer(&i, "cut")(n); f.Cut = &i },
		"gap":         r.duration(&f.Gap, "gap"),
		"retry_after": r.duration(&f.RetryAfter, "retry_after"),
		"executed":    r.flag(&f.Executed, "executed"),
	})
	if f.Status != 0 && (f.Status < 100 || f.Status > 599) {
		r.fail(n, "status must lie between 100 and 599")
	}
	r.flow.faults = append(r.flow.faults, f)
}

func (r *reader) readBlock(key, value *yaml.Node) {
	if !names.MatchString(key.Value) || key.Value == blockEnd || key.Value == blockNowhere {
		r.fail(key, "a block cannot be called %q", key.Value)
		return
	}
	r.block, r.count = key.Value, 0
	r.flow.blocks[key.Value] = &block{name: key.Value, line: key.Line, steps: r.steps(value, "the block "+key.Value)}
}

// target reads where a path leads: goto, call, or steps of its own. The keys are
// handed to the mapping that holds them.
func (r *reader) target(t *target) map[string]func(*yaml.Node) {
	set := func(n *yaml.Node, fill func()) {
		if t.line != 0 {
			r.fail(n, "write only one of goto, call and steps")
		}
		t.line = n.Line
		fill()
	}
	return map[string]func(*yaml.Node){
		"goto":  func(n *yaml.Node) { set(n, func() { r.text(&t.block, "goto")(n) }) },
		"call":  func(n *yaml.Node) { set(n, func() { r.text(&t.block, "call")(n); t.call = true }) },
		"steps": func(n *yaml.Node) { set(n, func() { t.steps = r.steps(n, "steps") }) },
	}
}

// readLadder reads no_reply or no_match of a step.
func (r *reader) readLadder(into **ladder, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		l := &ladder{}
		*into = l
		keys := r.target(&l.target)
		keys["prompts"] = func(n *yaml.Node) {
			if n.Kind == yaml.ScalarNode {
				l.rungs = append(l.rungs, rung{say: n.Value})
				return
			}
			r.list(n, "prompts", func(item *yaml.Node) {
				var g rung
				if item.Kind == yaml.ScalarNode {
					g.say = item.Value
				} else {
					r.fields(item, "a prompt", map[string]func(*yaml.Node){
						"say":     r.text(&g.say, "say"),
						"timeout": r.duration(&g.timeout, "timeout"),
					})
				}
				l.rungs = append(l.rungs, g)
			})
		}
		if what == "no_reply" {
			keys["timeout"] = r.duration(&l.timeout, "timeout")
		}
		r.fields(n, what, keys)
		l.path = l.target.line != 0
	}
}

// link joins the steps and checks every name that a path uses.
func (r *reader) link() {
	f := r.flow
	for _, b := range f.blocks {
		r.linkSteps(b.steps, nil)
	}
	for _, c := range f.commands {
		r.known(c.block, 0)
		r.knownIntent(c.intent, 0)
	}
	for _, b := range f.events {
		r.known(b, 0)
	}
	if f.global.noReply != "" && f.global.noReplyTimeout == 0 {
		f.global.noReplyTimeout = 10 * time.Second
	}
}

func (r *reader) linkSteps(steps []*node, after *node) {
	for i, n := range steps {
		n.next = after
		if i+1 < len(steps) {
			n.next = steps[i+1]
		}
	}
	for _, n := range steps {
		switch n.kind {
		case kindGoto, kindCall:
			r.known(n.text, n.line)
		case kindIf:
			r.linkTarget(&n.then, n)
			r.linkTarget(&n.otherwise, n)
		default:
		}
		for i := range n.options {
			if n.options[i].intent != "" {
				r.knownIntent(n.options[i].intent, n.line)
			}
			r.linkTarget(&n.options[i].target, n)
		}
		for i := range n.act.paths {
			r.linkTarget(&n.act.paths[i].target, n)
		}
		for _, l := range []*ladder{n.listen.noReply, n.listen.noMatch} {
			if l != nil {
				r.linkTarget(&l.target, n)
			}
		}
	}
}

// linkTarget resolves t, a way out of n.
func (r *reader) linkTarget(t *target, n *node) {
	switch {
	case t.block == blockNowhere:
		t.lost = true
	case t.block != "":
		r.known(t.block, t.line)
		k := kindGoto
		if t.call {
			k = kindCall
		}
		t.first = &node{id: n.id + ">" + t.block, line: t.line, kind: k, text: t.block, next: n.next}
		if t.call {
			r.flow.nodes[t.first.id] = t.first // two calls of a block from one step lead on alike
		}
	case len(t.steps) > 0:
		r.linkSteps(t.steps, n.next)
		t.first = t.steps[0]
	default:
		t.first = n.next
	}
}

func (r *reader) known(name string, line int) {
	if name == blockEnd || name == blockNowhere || r.flow.blocks[name] != nil {
		return
	}
	r.errs = append(r.errs, atLine(line, fmt.Errorf("there is no block %q%s", name, nearest(name, r.flow.blocks))))
}

func (r *reader) knownIntent(name string, line int) {
	if r.flow.intents[name] == nil {
		r.errs = append(r.errs, atLine(line, fmt.Errorf("there is no intent %q%s", name, nearest(name, r.flow.intents))))
	}
}

func atLine(line int, err error) error {
	if line == 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", line, err)
}
