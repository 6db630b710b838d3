package localflow

import (
	"slices"
	"strings"
)

// listens reads what all listening steps have: what to do about silence and
// misunderstanding, and whether other intents are understood meanwhile.
func (p *project) listens(n *vfNode) {
	n.head.listen = listening{noReply: p.silence(n), noMatch: p.mismatch(n)}
	switch n.typ {
	case "buttons-v2", "choice-v2", "capture-v3":
		n.head.own = !n.data.flag("listenForOtherTriggers")
	default:
		n.head.own = n.data.text("intentScope") == "NODE"
	}
	if n.data.object("automaticReprompt") != nil || n.data.object("capture").object("automaticReprompt") != nil {
		p.remark(n, "its automatic reprompt is not generated")
	}
}

// silence reads no reply.
func (p *project) silence(n *vfNode) *ladder {
	o := n.data.object("noReply")
	if o == nil {
		if old := n.data.object("reprompt"); old != nil {
			return &ladder{timeout: defaultSilence, rungs: rungs(p.prompts([]object{old}))}
		}
		return nil
	}
	l := p.ladder(n, o, "no-reply")
	l.timeout = defaultSilence
	for _, key := range []string{"timeout", "inactivityTime"} {
		if seconds, ok := o.number(key); ok && seconds > 0 {
			l.timeout = milliseconds(seconds * 1000)
		}
	}
	return l
}

// mismatch reads no match under any of its names.
func (p *project) mismatch(n *vfNode) *ladder {
	for _, key := range []string{"noMatch", "else", "noMatches"} {
		if o := n.data.object(key); o != nil {
			return p.ladder(n, o, "else")
		}
	}
	if id := n.ports.named("else"); id != "" {
		return &ladder{path: true, target: p.path(n, id)}
	}
	return nil
}

func (p *project) ladder(n *vfNode, o object, port string) *ladder {
	types := o.texts("types")
	l := &ladder{}
	if typ := o.text("type"); typ != "" {
		types = append(types, typ)
	}
	_, classic := o["types"]
	both := slices.Contains(types, "both")
	switch id := o.text("repromptID"); {
	case id != "":
		l.rungs = rungs(p.reprompts(id))
	case !classic || both || slices.Contains(types, "reprompt"):
		l.rungs = rungs(p.prompts(o.objects("reprompts")))
	}
	l.path = o.flag("path") || both || slices.Contains(types, "path")
	if l.path {
		l.target = p.path(n, n.ports.named(port))
	}
	return l
}

func rungs(prompts []string) []rung {
	out := make([]rung, 0, len(prompts))
	for _, s := range prompts {
		out = append(out, rung{say: s})
	}
	return out
}

// button reads the way of button i; its port is found by its id or its place.
func (p *project) button(n *vfNode, o object, i int) target {
	if port, ok := n.ports.keys[o.text("id")]; ok {
		return p.path(n, port.target)
	}
	return p.path(n, n.ports.at(i))
}

// buttons reads both generations of the buttons step, and the old prompt step,
// which is one without buttons.
func (p *project) buttons(n *vfNode) {
	p.listens(n)
	n.head.kind = kindChoice
	list := append(n.data.objects("buttons"), n.data.objects("items")...)
	for i, o := range list {
		label := p.braces(o.text("name"))
		if label == "" {
			label = p.prose(o["label"])
		}
		opt := option{button: label, target: p.button(n, o, i)}
		if name, ok := p.intentName(n, o.text("intent")); ok {
			opt.intent = name
		}
		if slices.Contains(o.texts("actions"), "INTENT") && opt.target.lost && opt.intent != "" {
			p.toTrigger(n, o.text("intent"), &opt.target)
		}
		if opt.button == "" && opt.intent == "" {
			p.remark(n, "button %d has no name", i+1)
			continue
		}
		n.head.options = append(n.head.options, opt)
	}
}

// toTrigger leads to where the intent is understood from everywhere.
func (p *project) toTrigger(n *vfNode, id string, t *target) {
	for _, tr := range p.triggers {
		if tr.intent == id {
			*t = target{first: tr.head}
			return
		}
	}
	p.remark(n, "no step of the file is reached by the intent %q", p.intents[id])
}

// choice reads both generations of the choice step.
func (p *project) choice(n *vfNode) {
	p.listens(n)
	n.head.kind = kindChoice
	for i, o := range n.data.objects("choices") {
		opt := option{target: p.path(n, n.ports.at(i))}
		var ok bool
		if opt.intent, ok = p.intentName(n, o.text("intent")); !ok {
			continue
		}
		if mappings := o.objects("mappings"); len(mappings) > 0 && !opt.target.lost {
			s := &node{kind: kindPass, next: opt.target.first}
			p.mapped(n, s, mappings)
			p.register(s, n.diagram.id, n.id+".mapping")
			opt.target.first = s
		}
		n.head.options = append(n.head.options, opt)
	}
	for i, o := range n.data.objects("items") {
		opt := option{button: p.prose(o.object("button")["label"]), target: p.button(n, o, i)}
		opt.intent, _ = p.intentName(n, o.text("intentID"))
		if opt.button != "" || opt.intent != "" {
			n.head.options = append(n.head.options, opt)
		}
	}
	for _, o := range append(n.data.objects("buttons"), n.data.objects("chips")...) {
		label := p.prose(o["name"])
		if label == "" {
			label = p.prose(o["label"])
		}
		p.quickReply(n, label)
	}
}

// quickReply puts a label on the option that the same words would choose.
func (p *project) quickReply(n *vfNode, label string) {
	if strings.TrimSpace(label) == "" {
		return
	}
	for i := range n.head.options {
		o := &n.head.options[i]
		if in := p.flow.intents[o.intent]; in != nil && o.button == "" {
			if _, says := in.match(label); says {
				o.button = label
				return
			}
		}
	}
	p.remark(n, "the quick reply %q says none of the step's intents: it is not shown", label)
}

// card reads a card; one whose buttons lead nowhere does not wait.
func (p *project) card(n *vfNode) {
	n.head.next = p.after(n)
	payload := map[string]any{
		"title": p.braces(n.data.text("title")), "description": map[string]any{"text": p.prose(n.data["description"])},
		"imageUrl": p.braces(n.data.text("imageUrl")),
	}
	var options []option
	waits := false
	for i, o := range n.data.objects("buttons") {
		opt := option{button: p.braces(o.text("name")), target: p.button(n, o, i)}
		opt.intent, _ = p.intentName(n, o.text("intent"))
		opt.bare = opt.target.lost && opt.intent == ""
		waits = waits || !opt.bare
		options = append(options, opt)
	}
	if !waits {
		payload["buttons"] = []any{}
		n.head.kind, n.head.payload = kindTrace, map[string]any{"type": "cardV2", "payload": payload}
		return
	}
	p.listens(n)
	n.head.kind, n.head.payload, n.head.options = kindCard, payload, options
}

// capture reads all three generations of the capture step: the whole reply into a
// variable, or entities.
func (p *project) capture(n *vfNode) {
	p.listens(n)
	s, c := n.head, n.data.object("capture")
	s.next, s.kind = p.after(n), kindCapture
	variable, entities := n.data.text("variable"), []entity(nil)
	switch c.text("type") {
	case "query":
		variable = c.text("variable")
	case "user-reply":
		if variable = c.text("variableID"); variable == "" {
			variable = "last_utterance"
		}
	case "intent":
		entities = p.slots(n, c.object("intent").objects("slots"))
	case "entity":
		entities = p.captured(n, c.objects("items"))
	}
	if len(entities) == 0 {
		if s.text = p.name(variable, ""); !names.MatchString(s.text) {
			p.remark(n, "the variable to capture into is not chosen")
			s.text = "last_utterance"
		}
		return
	}
	in := &intent{name: "capture " + s.id, entities: entities}
	p.flow.intents[in.name] = in // known by name, and never understood by itself
	s.options = []option{{intent: in.name, target: target{first: s.next, lost: s.next == nil}}}
}

// captured are the entities of the newest capture step.
func (p *project) captured(n *vfNode, items []object) []entity {
	var out []entity
	for _, o := range items {
		e := p.entities[o.text("entityID")]
		if e == nil {
			p.remark(n, "the entity %q is not in the file", o.text("entityID"))
			continue
		}
		prompt := ""
		if prompts := p.reprompts(o.text("repromptID")); len(prompts) > 0 {
			prompt = prompts[0]
		}
		got := e.with(prompt)
		if id := o.text("variableID"); id != "" && names.MatchString(p.name(id, "")) {
			got.name = p.name(id, "")
		}
		out = append(out, got)
	}
	return out
}
