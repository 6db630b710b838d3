package localflow

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// steps reads a list of steps: each a mapping with the step's kind as a key, and
// an id where the author wants one.
func (r *reader) steps(n *yaml.Node, what string) []*node {
	var steps []*node
	if r.depth++; r.depth > maxDepth {
		r.fail(n, "%s is nested too deeply", what)
		r.depth--
		return nil
	}
	defer func() { r.depth-- }()
	r.list(n, what, func(item *yaml.Node) {
		if s := r.step(item); s != nil {
			steps = append(steps, s)
		}
	})
	return steps
}

func (r *reader) step(n *yaml.Node) *node {
	s := &node{line: n.Line, act: actionSpec{fallback: -1}}
	r.count++
	s.id = fmt.Sprintf("%s.%d", r.block, r.count)
	found := ""
	keys := map[string]func(*yaml.Node){"id": r.text(&s.id, "id")}
	for name, k := range kindNames {
		keys[name] = func(v *yaml.Node) {
			if found != "" {
				r.fail(v, "a step is one thing, not %s and %s", found, name)
				return
			}
			found, s.kind = name, k
			r.readers()[k](s, v)
		}
	}
	if n.Kind == yaml.ScalarNode && n.Value == "end" {
		s.kind, found = kindEnd, "end"
	} else {
		r.fields(n, "a step", keys)
	}
	if found == "" {
		r.fail(n, "a step needs one of %v", slices.Sorted(maps.Keys(kindNames)))
		return nil
	}
	if r.flow.nodes[s.id] != nil {
		r.fail(n, "the id %q is taken", s.id)
	}
	r.flow.nodes[s.id] = s
	return s
}

func (r *reader) readers() map[kind]func(*node, *yaml.Node) {
	plain := func(what string) func(*node, *yaml.Node) {
		return func(s *node, n *yaml.Node) { r.text(&s.text, what)(n) }
	}
	return map[kind]func(*node, *yaml.Node){
		kindSpeak: plain("speak"), kindAudio: plain("audio"), kindGoto: plain("goto"), kindCall: plain("call"),
		kindText: r.readText, kindVisual: r.readVisual, kindChoice: r.readChoice, kindCard: r.readCard,
		kindCapture: r.readCapture, kindAction: r.readAction, kindForward: r.readForward, kindDTMF: r.readDTMF,
		kindStream: r.readStream, kindTrace: r.readTrace, kindSet: r.readSet, kindIf: r.readIf,
		kindDelay: func(s *node, n *yaml.Node) { r.duration(&s.delay, "delay")(n) },
		kindEnd:   func(*node, *yaml.Node) {},
	}
}

func (r *reader) readText(s *node, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		r.text(&s.text, "text")(n)
		return
	}
	r.fields(n, "text", map[string]func(*yaml.Node){
		"message": r.text(&s.text, "message"),
		"delay":   r.duration(&s.delay, "delay"),
	})
}

func (r *reader) readVisual(s *node, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		s.payload = map[string]any{"visualType": "image", "image": n.Value, "device": nil, "canvasVisibility": "full"}
		return
	}
	s.payload = r.value(n)
}

func (r *reader) readChoice(s *node, n *yaml.Node) {
	r.fields(n, "choice", map[string]func(*yaml.Node){
		"options":  r.readOptions(s),
		"no_reply": r.readLadder(&s.listen.noReply, "no_reply"),
		"no_match": r.readLadder(&s.listen.noMatch, "no_match"),
	})
	if len(s.options) == 0 {
		r.fail(n, "a choice needs options")
	}
}

func (r *reader) readOptions(s *node) func(*yaml.Node) {
	return func(n *yaml.Node) {
		r.list(n, "options", func(item *yaml.Node) {
			var o option
			keys := r.target(&o.target)
			keys["button"] = r.text(&o.button, "button")
			keys["intent"] = r.text(&o.intent, "intent")
			r.fields(item, "an option", keys)
			if o.button == "" && o.intent == "" {
				r.fail(item, "an option needs a button or an intent")
			}
			s.options = append(s.options, o)
		})
	}
}

func (r *reader) readCard(s *node, n *yaml.Node) {
	var title, text, image string
	r.fields(n, "card", map[string]func(*yaml.Node){
		"title": r.text(&title, "title"),
		"text":  r.text(&text, "text"),
		"image": r.text(&image, "image"),
		"buttons": func(n *yaml.Node) {
			r.list(n, "buttons", func(item *yaml.Node) {
				var o option
				keys := r.target(&o.target)
				keys["name"] = r.text(&o.button, "name")
				r.fields(item, "a button", keys)
				o.bare = o.target.line == 0
				s.options = append(s.options, o)
			})
		},
		"no_reply": r.readLadder(&s.listen.noReply, "no_reply"),
		"no_match": r.readLadder(&s.listen.noMatch, "no_match"),
	})
	s.payload = map[string]any{"title": title, "description": map[string]any{"text": text}, "imageUrl": image}
}

func (r *reader) readCapture(s *node, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		r.text(&s.text, "capture")(n)
	} else {
		r.fields(n, "capture", map[string]func(*yaml.Node){
			"into":     r.text(&s.text, "into"),
			"pattern":  r.regex(&s.pattern, "pattern"),
			"no_reply": r.readLadder(&s.listen.noReply, "no_reply"),
			"no_match": r.readLadder(&s.listen.noMatch, "no_match"),
		})
	}
	if !names.MatchString(s.text) {
		r.fail(n, "capture needs the name of a variable (into)")
	}
}

func (r *reader) readAction(s *node, n *yaml.Node) {
	fallback := ""
	at := n
	r.fields(n, "action", map[string]func(*yaml.Node){
		"name": r.text(&s.act.name, "name"),
		"body": func(n *yaml.Node) { s.payload = r.value(n) },
		"stop": r.flag(&s.act.stop, "stop"),
		"format": func(n *yaml.Node) {
			switch n.Value {
			case "node":
			case "trace":
				s.act.compiled = true
			default:
				r.fail(n, "format is node (stopTypes name the action) or trace (they do not)")
			}
		},
		"default": func(n *yaml.Node) { at = n; r.text(&fallback, "default")(n) },
		"paths": func(n *yaml.Node) {
			r.list(n, "paths", func(item *yaml.Node) {
				var p actionPath
				if item.Kind == yaml.ScalarNode {
					p.name = item.Value
				} else {
					keys := r.target(&p.target)
					keys["name"] = r.text(&p.name, "name")
					r.fields(item, "a path", keys)
				}
				if p.name == "" {
					r.fail(item, "a path needs a name")
				}
				s.act.paths = append(s.act.paths, p)
			})
		},
	})
	if s.act.name == "" {
		r.fail(n, "an action needs a name")
	}
	if fallback != "" {
		s.act.fallback = slices.IndexFunc(s.act.paths, func(p actionPath) bool { return p.name == fallback })
		if s.act.fallback < 0 {
			r.fail(at, "default names no path of the action: %q", fallback)
		}
	}
}

func (r *reader) readForward(s *node, n *yaml.Node) {
	kind, address, extension, callerID := "phone", "", "", false
	r.fields(n, "forward", map[string]func(*yaml.Node){
		"type":      r.text(&kind, "type"),
		"address":   r.text(&address, "address"),
		"extension": r.text(&extension, "extension"),
		"caller_id": r.flag(&callerID, "caller_id"),
	})
	if kind != "phone" && kind != "sip" || address == "" {
		r.fail(n, "forward needs an address, and a type that is phone or sip")
	}
	p := map[string]any{"addressType": kind, "address": address}
	if extension != "" {
		p["extension"] = extension
	}
	if callerID {
		p["callerIDPassthrough"] = true
	}
	s.payload = p
}

func (r *reader) readDTMF(s *node, n *yaml.Node) {
	enabled, maxDigits := true, 0
	seconds := 2.0
	var delimiters []string
	r.fields(n, "dtmf", map[string]func(*yaml.Node){
		"enabled":    r.flag(&enabled, "enabled"),
		"max_digits": r.integer(&maxDigits, "max_digits"),
		"delimiter":  r.texts(&delimiters, "delimiter"),
		"timeout": func(n *yaml.Node) {
			d, err := parseDuration(n.Value)
			if err != nil {
				r.fail(n, "timeout: %v", err)
			}
			seconds = d.Seconds()
		},
	})
	p := map[string]any{"enabled": enabled, "timeoutInSeconds": seconds, "delimiter": delimiters}
	if delimiters == nil {
		p["delimiter"] = []string{}
	}
	if maxDigits > 0 {
		p["maxDigits"] = maxDigits
	}
	s.payload = p
}

func (r *reader) readStream(s *node, n *yaml.Node) {
	var src, title string
	var loop bool
	r.fields(n, "stream", map[string]func(*yaml.Node){
		"src":   r.text(&src, "src"),
		"title": r.text(&title, "title"),
		"loop":  r.flag(&loop, "loop"),
	})
	if src == "" {
		r.fail(n, "stream needs src")
	}
	s.payload = map[string]any{
		"src": src, "token": s.id, "loop": loop, "description": "", "title": title, "iconImage": "", "backgroundImage": "",
	}
}

// readTrace reads a trace that is emitted as it stands, for what the other steps
// do not make.
func (r *reader) readTrace(s *node, n *yaml.Node) {
	m, ok := r.value(n).(map[string]any)
	if !ok {
		r.fail(n, "trace must be a mapping")
	}
	s.payload = m
}

func (r *reader) readSet(s *node, n *yaml.Node) {
	r.pairs(n, "set", func(k, v *yaml.Node) {
		a := assignment{name: k.Value}
		if !names.MatchString(k.Value) {
			r.fail(k, "a variable cannot be called %q", k.Value)
		}
		if v.Kind == yaml.ScalarNode && len(v.Value) > 0 && v.Value[0] == '=' {
			e, err := parseExpr(v.Value[1:])
			if err != nil {
				r.fail(v, "%v", err)
			}
			a.expr = e
		} else {
			a.literal = r.value(v)
		}
		s.sets = append(s.sets, a)
	})
}

func (r *reader) readIf(s *node, n *yaml.Node) {
	r.fields(n, "if", map[string]func(*yaml.Node){
		"when": func(v *yaml.Node) {
			r.text(&s.text, "when")(v)
			e, err := parseExpr(s.text)
			if err != nil {
				r.fail(v, "%v", err)
			}
			s.cond = e
		},
		"then": r.branch(&s.then),
		"else": r.branch(&s.otherwise),
	})
	if s.cond == nil {
		r.fail(n, "if needs when")
	}
}

// branch reads a list of steps, or a mapping with goto or call.
func (r *reader) branch(t *target) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind == yaml.SequenceNode {
			t.line, t.steps = n.Line, r.steps(n, "steps")
			return
		}
		r.fields(n, "a branch", r.target(t))
	}
}
