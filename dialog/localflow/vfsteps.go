package localflow

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// vfContainers hold steps and are none.
var vfContainers = map[string]bool{"block": true, "actions": true}

// vfNotes are on the canvas for its readers.
var vfNotes = map[string]bool{"markup_text": true, "markup_image": true, "markup_video": true}

// vfSteps are the steps that are understood, by their type in the file.
var vfSteps = map[string]func(*project, *vfNode){
	"start": (*project).pass, "intent": (*project).intentStep, "trigger": (*project).pass, "command": (*project).pass,
	"url":   (*project).pass,
	"speak": (*project).speak, "text": (*project).text, "message": (*project).message, "visual": (*project).visual,
	"stream":  (*project).stream,
	"buttons": (*project).buttons, "buttons-v2": (*project).buttons, "interaction": (*project).choice, "choice-v2": (*project).choice,
	"prompt": (*project).buttons, "cardV2": (*project).card,
	"capture": (*project).capture, "captureV2": (*project).capture, "capture-v3": (*project).capture,
	"trace": (*project).action,
	"set":   (*project).set, "setV2": (*project).set, "if": (*project).condition, "ifV2": (*project).condition,
	"random": (*project).random, "randomV2": (*project).random,
	"goToNode": (*project).goToNode, "goTo": (*project).goToIntent, "goToDomain": (*project).goToDomain,
	"component": (*project).component, "flow": (*project).component,
	"exit": (*project).exit,
}

// vfRefused are the steps that are known and not done, and why.
var vfRefused = map[string]string{
	"api": "no request is made", "integrations": "no request is made", "google_sheets": "no request is made", "zapier": "no request is made",
	"code": "JavaScript is not run", "function": "functions are not run",
	"generative": "nothing is generated", "ai_set": "nothing is generated", "ai_capture": "nothing is generated",
	"response": "nothing is generated", "carousel": "there is no screen", "card": "there is no screen",
	"custom_block_pointer": "library steps are not expanded", "channel_action": "only custom actions are sent",
	"general": "raw traces are not sent", "directive": "raw traces are not sent",
}

// pass makes a step that only leads on.
func (p *project) pass(n *vfNode) { n.head.next = p.after(n) }

func (p *project) exit(n *vfNode) { n.head.kind = kindEnd }

func (p *project) intentStep(n *vfNode) {
	n.head.next = p.after(n)
	p.mapped(n, n.head, n.data.objects("mappings"))
}

// mapped makes s set variables to the entities of an intent.
func (p *project) mapped(n *vfNode, s *node, mappings []object) {
	for _, m := range mappings {
		slot, variable := m.text("slot"), m.text("variable")
		if slot == "" || variable == "" || p.name(slot, "") == p.name(variable, "") {
			continue
		}
		from := p.name(slot, "")
		s.kind = kindSet
		s.sets = append(s.sets, p.assign(n, variable, func(vars map[string]any) any { return vars[from] }))
	}
}

func (p *project) assign(n *vfNode, variable string, e expr) assignment {
	name := p.name(variable, "")
	if !names.MatchString(name) {
		p.remark(n, "the variable %q cannot be called so", name)
		name = "_"
	}
	return assignment{name: name, expr: e}
}

// say makes n speak or write one of texts.
func (p *project) say(n *vfNode, k kind, texts []string) {
	n.head.next = p.after(n)
	switch len(texts) {
	case 0:
		return
	case 1:
		n.head.text = texts[0]
	default:
		n.head.variants = texts
	}
	n.head.kind = k
}

func (p *project) speak(n *vfNode) {
	texts := p.prompts(n.data.objects("dialogs"))
	if !n.data.flag("randomize") && len(texts) > 1 {
		texts = []string{strings.Join(texts, " ")}
	}
	p.say(n, kindSpeak, texts)
}

func (p *project) text(n *vfNode) {
	list := n.data.objects("texts")
	p.say(n, kindText, p.prompts(list))
	if len(list) > 0 {
		ms, _ := list[0].number("messageDelayMilliseconds")
		n.head.delay = milliseconds(ms)
	}
}

// message is the newer text step: its words are a response of the project.
func (p *project) message(n *vfNode) {
	list := p.responses[n.data.text("messageID")]
	if slices.ContainsFunc(list, func(m vfMessage) bool { return m.conditional }) {
		p.remark(n, "its conditions are not read: those of its texts are left out")
	}
	p.say(n, kindText, p.reprompts(n.data.text("messageID")))
	if len(list) > 0 {
		n.head.delay = list[0].delay
	}
}

func (p *project) visual(n *vfNode) {
	n.head.next = p.after(n)
	n.head.kind = kindVisual
	n.head.payload = p.copied(n, "visualType", "image", "device", "dimensions", "canvasVisibility")
}

// copied takes members of n as they are, references replaced.
func (p *project) copied(n *vfNode, keys ...string) map[string]any {
	m := make(map[string]any)
	for _, k := range keys {
		if v, ok := n.data[k]; ok {
			m[k] = p.rewritten(v, 0)
		}
	}
	return m
}

func (p *project) rewritten(v any, depth int) any {
	if depth > maxDepth {
		return nil
	}
	switch v := v.(type) {
	case string:
		return p.braces(v)
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, w := range v {
			m[k] = p.rewritten(w, depth+1)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, w := range v {
			l[i] = p.rewritten(w, depth+1)
		}
		return l
	}
	return v
}

func (p *project) stream(n *vfNode) {
	n.head.next = p.after(n)
	n.head.kind = kindStream
	n.head.payload = map[string]any{
		"src": p.braces(n.data.text("src")), "token": n.head.id, "loop": n.data.flag("loop"), "description": p.braces(n.data.text("description")),
		"title": p.braces(n.data.text("title")), "iconImage": "", "backgroundImage": "",
	}
}

// action reads a custom action.
func (p *project) action(n *vfNode) {
	body := n.data.object("payload")
	s, a := n.head, &n.head.act
	s.kind, a.compiled = kindAction, true
	a.name = p.braces(body.text("name"))
	a.stop = body.flag("isBlocking") || n.data.flag("stop")
	if a.name == "" {
		p.remark(n, "it has no name")
		a.name = "custom action"
	}
	switch text := p.braces(body.text("body")); {
	case text == "":
	case body.text("bodyType") != "json":
		s.payload = text
	default:
		a.source = text
		var v any
		if json.Unmarshal([]byte(place.ReplaceAllString(text, "0")), &v) != nil {
			p.remark(n, "its body is not JSON: it is sent as text")
		}
	}
	paths := n.data.objects("paths")
	for i := range max(len(paths), len(n.ports.dynamic)) {
		var name string
		if i < len(paths) {
			name = paths[i].text("label")
			if paths[i].flag("isDefault") {
				a.fallback = i
			}
		}
		if name == "" && i < len(n.ports.dynamic) {
			name = n.ports.dynamic[i].event
		}
		a.paths = append(a.paths, actionPath{name: name, target: p.path(n, n.ports.at(i))})
	}
	if i, ok := n.data.number("defaultPath"); ok && i >= 0 && int(i) < len(a.paths) {
		a.fallback = int(i)
	}
	if len(a.paths) == 0 {
		s.next = p.after(n)
	}
}

// set reads both generations of the set step.
func (p *project) set(n *vfNode) {
	s := n.head
	s.next, s.kind = p.after(n), kindSet
	for _, o := range n.data.objects("sets") {
		variable := o.text("variable")
		if variable == "" {
			p.remark(n, "a variable to set is not chosen")
			continue
		}
		a := p.assign(n, variable, nil)
		text, isText := o["expression"].(string)
		name, reference := p.only(text)
		var err error
		switch {
		case isText && reference:
			a.expr = func(vars map[string]any) any { return vars[name] }
		case isText && o.text("type") == "value":
			a.literal = typed(p.braces(text))
		case isText:
			a.expr, err = p.source(text)
		default:
			a.expr, err = p.expression(o["expression"], 0)
		}
		if err != nil {
			p.remark(n, "the variable %q is not set: %v", a.name, err)
			continue
		}
		s.sets = append(s.sets, a)
	}
}

// condition reads both generations of the condition step.
func (p *project) condition(n *vfNode) {
	s := n.head
	s.kind = kindCases
	for i, v := range n.data.list("expressions") {
		cond, err := p.expression(v, 0)
		if err != nil {
			p.remark(n, "path %d is never taken: %v", i+1, err)
			continue
		}
		s.cases = append(s.cases, branch{cond: cond, target: p.path(n, n.ports.at(i))})
	}
	s.otherwise = p.path(n, n.ports.named("else"))
}

func (p *project) random(n *vfNode) {
	n.head.kind = kindRandom
	for i := range n.ports.dynamic {
		n.head.cases = append(n.head.cases, branch{target: p.path(n, n.ports.at(i))})
	}
}

func (p *project) goToNode(n *vfNode) {
	d := n.diagram
	if id := n.data.text("diagramID"); id != "" && p.byID[id] != nil {
		d = p.byID[id]
	}
	id := n.data.text("nodeID")
	switch to := d.nodes[id]; {
	case id == "":
	case to == nil && id == startID && d.start() != nil: // of a workflow made of another
		n.head.next = d.start()
	case to == nil:
		p.remark(n, "it leads to %q, which is not in the diagram", id)
	default:
		n.head.next = to.first()
	}
}

// goToIntent leads to where an intent is understood.
func (p *project) goToIntent(n *vfNode) {
	id := n.data.text("intent")
	if id == "" {
		return
	}
	for _, near := range []bool{true, false} {
		for _, t := range p.triggers {
			if t.intent == id && (!near || t.diagram.id == n.data.text("diagramID")) {
				n.head.next = t.head
				return
			}
		}
	}
	p.remark(n, "no step of the file is reached by the intent %q", p.intents[id])
}

// goToDomain leads to the start of a group of workflows.
func (p *project) goToDomain(n *vfNode) {
	for _, o := range p.version.objects("domains") {
		if o.text("id") == n.data.text("domainID") && p.byID[o.text("rootDiagramID")] != nil {
			n.head.next = p.byID[o.text("rootDiagramID")].start()
			return
		}
	}
	p.remark(n, "it leads to a domain that is not in the file")
}

// component reads a call of another diagram, which comes back. Variables have one
// home here, so those handed over are copied before and after.
func (p *project) component(n *vfNode) {
	s := n.head
	s.next = p.after(n)
	id := n.data.text("diagramID")
	d := p.byID[id]
	if d == nil {
		if id != "" {
			p.remark(n, "it calls %q, which is not in the file", id)
		}
		return
	}
	handed := n.data.object("variableMap")
	if out := p.handed(n, handed.list("outputs")); len(out) > 0 {
		back := &node{kind: kindSet, sets: out, next: s.next}
		p.register(back, n.diagram.id, n.id+".out")
		s.next = back
	}
	if in := p.handed(n, handed.list("inputs")); len(in) > 0 {
		call := &node{kind: kindCall, text: d.id, next: s.next}
		p.register(call, n.diagram.id, n.id+".call")
		s.kind, s.sets, s.next = kindSet, in, call
		return
	}
	s.kind, s.text = kindCall, d.id
}

func (p *project) handed(n *vfNode, list []any) []assignment {
	var out []assignment
	for _, v := range list {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			continue
		}
		from, _ := pair[0].(string)
		to, _ := pair[1].(string)
		if from == "" || to == "" {
			continue
		}
		source := p.name(from, "")
		out = append(out, p.assign(n, to, func(vars map[string]any) any { return vars[source] }))
	}
	return out
}

// trigger notes where an intent leads from everywhere.
func (p *project) trigger(n *vfNode) {
	d := n.diagram
	add := func(id string, to *node, push bool) {
		if id != "" && to != nil {
			p.triggers = append(p.triggers, vfTrigger{intent: id, diagram: d, head: to, push: push})
		}
	}
	switch n.typ {
	case "intent":
		add(n.data.text("intent"), n.head, d.typ == "COMPONENT")
	case "trigger":
		for _, o := range n.data.objects("items") {
			add(o.text("resourceID"), n.head, d.typ == "COMPONENT")
		}
	case "start":
		for _, o := range n.data.objects("triggers") {
			add(o.text("resourceID"), n.head, d.typ == "COMPONENT")
		}
	case "command":
		if to := p.byID[n.data.text("diagramID")]; to != nil {
			add(n.data.text("intent"), to.start(), true)
			return
		}
		if to := d.nodes[n.data.text("next")]; to != nil {
			add(n.data.text("intent"), to.first(), false)
		}
	}
}

// commands makes the triggers commands of the flow.
func (p *project) commands() {
	f := p.flow
	for i, t := range p.triggers {
		name, ok := p.intentName(nil, t.intent)
		if !ok {
			continue
		}
		id := "trigger " + strconv.Itoa(i+1)
		f.blocks[id] = &block{name: id, steps: steps(t.head)}
		f.commands = append(f.commands, command{intent: name, block: id, push: t.push})
	}
}

// defaultSilence is how long a step waits whose no reply names no time.
const defaultSilence = 10 * time.Second
