package localflow

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// turnBudget is how long the runtime works on a turn before it answers with
	// what there is.
	turnBudget = 15 * time.Second
	// maxVisits bounds the steps of one turn.
	maxVisits = 400
	// maxStack bounds calls within calls.
	maxStack = 60
)

// wireTrace is a trace as the API sends it.
type wireTrace struct {
	Time        int64            `json:"time"`
	Type        string           `json:"type"`
	Payload     json.RawMessage  `json:"payload,omitempty"`
	DefaultPath *int             `json:"defaultPath,omitempty"`
	Paths       []map[string]any `json:"paths,omitempty"`
}

// wireAction is what a client sends. Payload stays raw: it may be anything.
type wireAction struct {
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// wireConfig is the part of a request that says how to answer it.
type wireConfig struct {
	StripSSML    *bool     `json:"stripSSML"`
	StopTypes    []string  `json:"stopTypes"`
	StopAll      bool      `json:"stopAll"`
	ExcludeTypes *[]string `json:"excludeTypes"`
	// CompletionEvents asks v4's streams for texts in pieces.
	CompletionEvents bool `json:"completionEvents"`
}

// run is one turn.
type run struct {
	flow   *Flow
	st     *state
	conf   wireConfig
	logs   bool
	live   bool // traces leave as they are made, before anything looks at them
	now    func() time.Time
	sleep  func(time.Duration) // returns early when the server closes
	pick   func(n int) int     // chance: 0 to n-1
	logger *zap.Logger
	began  time.Time
	visits int
	traces []wireTrace
}

// emit adds a trace. A nil payload is sent as null.
func (r *run) emit(typ string, payload any) *wireTrace {
	r.traces = append(r.traces, wireTrace{Time: r.now().UnixMilli(), Type: typ, Payload: encode(payload)})
	return &r.traces[len(r.traces)-1]
}

func (r *run) path(p string) { r.emit("path", map[string]any{"path": p}) }

func (r *run) log(kind string, message map[string]any) {
	if r.logs {
		r.emit("log", map[string]any{
			"kind": kind, "message": message, "level": "info",
			"timestamp": r.now().UTC().Format("2006-01-02T15:04:05.000Z"),
		})
	}
}

// turn answers one action: nil is the null request.
func (r *run) turn(a *wireAction, user string) {
	r.began = r.now()
	s := r.st
	if a != nil && a.Type == "action" {
		return
	}
	launch := a != nil && a.Type == "launch"
	if launch || len(s.Stack) == 0 || r.unstarted() {
		ended := len(s.Stack) == 0
		if ended && a != nil && a.Type == "no-reply" {
			return
		}
		r.flow.begin(s, user)
		if a != nil {
			r.remember(a)
		}
		if !launch && a != nil {
			if u, ok := r.read(a, nil); ok && r.command(u) {
				return
			}
		}
		s.stamp(r.now())
		r.enter(r.flow.diagram, r.flow.start)
		return
	}
	s.stamp(r.now())
	if a != nil {
		r.remember(a)
	}
	n := r.here()
	switch {
	case n == nil:
		r.enter(r.flow.diagram, r.flow.start)
	case s.Storage.Filling != nil && a != nil:
		r.continueFilling(n, a)
	default:
		r.answer(n, a)
	}
}

// unstarted reports whether the state is one that a reset left.
func (r *run) unstarted() bool {
	top := r.st.top()
	return top != nil && top.NodeID == nil && !top.Storage.IsBase && len(r.st.Stack) == 1
}

// here is the step at which the conversation waits; nil when the state names
// none of this flow.
func (r *run) here() *node {
	top := r.st.top()
	if top == nil || top.NodeID == nil {
		return nil
	}
	return r.flow.nodes[*top.NodeID]
}

func (r *run) remember(a *wireAction) {
	event := map[string]any{"type": a.Type}
	var payload any
	if json.Unmarshal(a.Payload, &payload) == nil && payload != nil {
		event["payload"] = payload
	}
	r.st.Variables["last_event"] = event
}

// enter begins a block, as the runtime's traces tell it.
func (r *run) enter(diagram string, first *node) {
	r.emit("flow", map[string]any{"diagramID": diagram})
	r.log("global.conversation_start", map[string]any{"userID": r.st.Variables["user_id"], "versionID": r.flow.version})
	r.emit("block", map[string]any{"blockID": "start"})
	r.emit("debug", map[string]any{"type": "start", "message": "beginning flow"})
	r.log("step.start", map[string]any{"stepID": "start", "componentName": "start"})
	r.proceed(first)
}

// proceed runs steps from n until one waits or the conversation is over.
func (r *run) proceed(n *node) {
	for {
		for n == nil {
			var resumed, more bool
			if n, resumed, more = r.leave(); !more {
				return
			}
			if resumed {
				return
			}
		}
		if r.visits++; r.visits > maxVisits || r.overdue() {
			r.emit("debug", map[string]any{"message": "ERROR: turn timeout - check for infinite loops"})
			return
		}
		next, wait := r.visit(n)
		if wait {
			return
		}
		n = next
	}
}

func (r *run) overdue() bool { return r.now().Sub(r.began) >= turnBudget }

// leave ends the top block. It returns what follows in the one below; resumed
// means that a listening step there has taken over, !more that nothing is left.
func (r *run) leave() (next *node, resumed, more bool) {
	s := r.st
	if len(s.Stack) > 0 {
		s.Stack = s.Stack[:len(s.Stack)-1]
	}
	top := s.top()
	if top == nil || top.Storage.IsBase {
		r.over()
		r.traces = append(r.traces, wireTrace{Time: r.now().UnixMilli(), Type: "end"})
		return nil, false, false
	}
	if top.NodeID == nil { // a command came before anything was said
		return r.flow.start, false, true
	}
	n := r.here()
	if n == nil {
		return nil, false, true
	}
	if n.kind == kindCall {
		return n.next, false, true
	}
	// A command interrupted a step that listens: it says its words again.
	if top.Storage.Output != "" {
		r.say(top.Storage.Output, false)
	}
	r.listen(n)
	return nil, true, true
}

func (r *run) over() {
	r.st.Stack, r.st.Storage = []frame{}, storage{}
}

// stand makes n the step that the conversation waits at.
func (r *run) stand(n *node) {
	id := n.id
	r.st.top().NodeID = &id
}

// visit performs n and returns what follows, or that it waits.
func (r *run) visit(n *node) (next *node, wait bool) {
	if n.kind != kindGoto && n.kind != kindPass {
		r.emit("block", map[string]any{"blockID": n.id})
	}
	vars := r.st.Variables
	switch n.kind {
	case kindSpeak:
		r.speak(n, fill(r.words(n), vars))
	case kindAudio:
		r.speak(n, `<audio src="`+fill(n.text, vars)+`"/>`)
	case kindText:
		r.write(n)
	case kindVisual:
		r.emit("visual", fillAll(n.payload, vars))
	case kindDTMF:
		r.emit("dtmf", n.payload)
	case kindTrace:
		r.raw(n)
	case kindSet:
		r.set(n)
	case kindDelay:
		r.sleep(min(n.delay, turnBudget-r.now().Sub(r.began)))
	case kindIf:
		if truth(n.cond(vars)) {
			return n.then.first, false
		}
		return n.otherwise.first, false
	case kindCases, kindRandom:
		return r.branchOf(n), false
	case kindUnknown:
		r.unknown(n)
	case kindPass:
	case kindGoto:
		return r.jump(n.text)
	case kindCall:
		return r.push(n, n.text)
	case kindEnd:
		r.end()
		return nil, true
	case kindChoice, kindCapture, kindCard:
		if n.kind == kindCard {
			r.emit("cardV2", r.card(n))
		}
		r.st.Storage = storage{}
		r.listen(n)
		return nil, true
	case kindStream:
		r.stand(n)
		r.stream(n, "PLAY")
		return nil, true
	case kindForward:
		r.stand(n)
		r.emit("call-forward", fillAll(n.payload, vars))
		return nil, true
	case kindAction:
		return r.action(n)
	}
	return n.next, false
}

func (r *run) end() {
	r.over()
	r.emit("end", nil)
	r.emit("debug", map[string]any{"type": "exit", "message": "exiting session - saving location/resolving stack"})
}

// jump leads to a block within the same level.
func (r *run) jump(name string) (next *node, wait bool) {
	switch name {
	case blockEnd:
		r.end()
		return nil, true
	case blockNowhere:
		return nil, false
	}
	return r.flow.blocks[name].first(), false
}

// push enters a block that comes back to n.
func (r *run) push(n *node, name string) (next *node, wait bool) {
	if name == blockEnd || name == blockNowhere || len(r.st.Stack) >= maxStack {
		return r.jump(name)
	}
	r.stand(n)
	r.log("step.flow", map[string]any{"stepID": n.id, "componentName": "flow"})
	return r.down(name), false
}

// down adds a level for the block called name.
func (r *run) down(name string) *node {
	r.st.Stack = append(r.st.Stack, frame{DiagramID: name, Variables: map[string]any{}, Commands: []any{}})
	r.emit("flow", map[string]any{"diagramID": name})
	r.emit("block", map[string]any{"blockID": "start"})
	r.emit("debug", map[string]any{"type": "start", "message": "beginning flow"})
	return r.flow.blocks[name].first()
}

// markup is what stripSSML removes; it is as greedy as the runtime's own.
var markup = regexp.MustCompile(`</?[^>]+(?:>|$)`)

var leadingAudio = regexp.MustCompile(`(?is)^\s*<audio\b[^>]*?\bsrc\s*=\s*["']([^"']*)["']`)

func (r *run) speak(n *node, words string) {
	r.say(words, false)
	r.log("step.speak", map[string]any{"text": words, "stepID": n.id, "componentName": "speak"})
}

// say emits a speak trace: a message, or audio when it begins with that element.
func (r *run) say(words string, prompt bool) {
	if top := r.st.top(); top != nil && !prompt {
		top.Storage.Output = words
	}
	r.st.Variables["last_response"] = words
	p := map[string]any{"type": "message", "message": words}
	if m := leadingAudio.FindStringSubmatch(words); m != nil && !r.live {
		p["type"], p["src"] = "audio", m[1]
	}
	if r.conf.StripSSML == nil || *r.conf.StripSSML {
		p["message"] = markup.ReplaceAllString(words, "")
	}
	if prompt {
		p["isPrompt"] = true
	}
	r.emit("speak", p)
}

// write emits a text trace.
func (r *run) write(n *node) {
	words := fill(r.words(n), r.st.Variables)
	lines := strings.Split(words, "\n")
	content := make([]any, 0, len(lines))
	for _, l := range lines {
		content = append(content, map[string]any{"children": []any{map[string]any{"text": l}}})
	}
	delay := float64(n.delay.Milliseconds())
	r.st.Variables["last_response"] = words
	r.emit("text", map[string]any{
		"message": words, "delay": delay,
		"slate": map[string]any{"id": n.id, "content": content, "messageDelayMilliseconds": delay},
	})
}

// raw emits a trace that the flow's author wrote.
func (r *run) raw(n *node) {
	m, _ := fillAll(n.payload, r.st.Variables).(map[string]any)
	typ, _ := m["type"].(string)
	t := wireTrace{Time: r.now().UnixMilli(), Type: typ}
	if p, ok := m["payload"]; ok {
		t.Payload = encode(p)
	}
	if paths, ok := m["paths"].([]any); ok {
		for _, p := range paths {
			if path, ok := p.(map[string]any); ok {
				t.Paths = append(t.Paths, path)
			}
		}
	}
	if d, ok := m["defaultPath"].(float64); ok {
		i := int(d)
		t.DefaultPath = &i
	}
	r.traces = append(r.traces, t)
}

func (r *run) set(n *node) {
	for _, a := range n.sets {
		var v any
		if a.expr != nil {
			v = a.expr(r.st.Variables)
		} else {
			v = fillAll(a.literal, r.st.Variables)
		}
		before := r.st.Variables[a.name]
		r.st.Variables[a.name] = v
		r.emit("debug", map[string]any{
			"type":    "code",
			"message": "evaluating code - changes:\n`{" + a.name + "}`: `" + show(before) + "` => `" + show(v) + "`",
		})
		r.log("step.set", map[string]any{
			"changedVariables": map[string]any{a.name: map[string]any{"before": before, "after": v}},
			"stepID":           n.id, "componentName": "set",
		})
	}
}

func (r *run) stream(n *node, action string) {
	p, _ := fillAll(n.payload, r.st.Variables).(map[string]any)
	p["action"] = action
	r.emit("stream", p)
}

// action emits a custom action, and waits for its outcome or takes its default
// path.
func (r *run) action(n *node) (next *node, wait bool) {
	t := r.emit(n.act.name, r.body(n))
	if n.payload == nil && n.act.source == "" {
		t.Payload = nil
	}
	if n.act.fallback >= 0 {
		t.DefaultPath = &n.act.fallback
	}
	for _, p := range n.act.paths {
		t.Paths = append(t.Paths, map[string]any{"label": p.name, "event": map[string]any{"type": p.name}})
	}
	compared := n.act.name
	if n.act.compiled {
		compared = "trace"
	}
	if n.act.stop || r.conf.StopAll || slices.Contains(r.conf.StopTypes, compared) {
		r.stand(n)
		return nil, true
	}
	if n.act.fallback >= 0 {
		return n.act.paths[n.act.fallback].target.first, false
	}
	if len(n.act.paths) == 0 {
		return n.next, false
	}
	return nil, false
}

// visible are the traces that the client asked for.
func (r *run) visible() []wireTrace {
	hidden := []string{"block", "debug", "flow"}
	if r.conf.ExcludeTypes != nil {
		hidden = *r.conf.ExcludeTypes
	}
	return slices.DeleteFunc(r.traces, func(t wireTrace) bool { return slices.Contains(hidden, t.Type) })
}

// encode is for values made of what JSON has.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
