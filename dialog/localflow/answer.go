package localflow

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// answer gives a to the step n, at which the conversation waits.
func (r *run) answer(n *node, a *wireAction) {
	switch n.kind {
	case kindChoice, kindCard, kindCapture:
		r.hear(n, a)
	case kindAction:
		r.outcome(n, a)
	case kindForward:
		r.proceed(n.next)
	case kindStream:
		r.streaming(n, a)
	default:
		r.proceed(n)
	}
}

// listen makes n wait for the caller: its buttons, and how long to wait.
func (r *run) listen(n *node) {
	r.stand(n)
	if n.kind == kindChoice {
		r.buttons(n)
	}
	r.waitFor(n, r.timeout(n))
}

// again is listen after a re-prompt: a card shows its buttons as a choice.
func (r *run) again(n *node, timeout time.Duration) {
	if n.kind != kindCapture {
		r.buttons(n)
	}
	r.waitFor(n, timeout)
}

func (r *run) waitFor(_ *node, timeout time.Duration) {
	if timeout > 0 {
		r.emit("no-reply", map[string]any{"timeout": timeout.Seconds()})
	}
}

// timeout is how long n waits: its own time, else everyone's.
func (r *run) timeout(n *node) time.Duration {
	if l := n.listen.noReply; l != nil && l.timeout > 0 {
		return l.timeout
	}
	return r.flow.global.noReplyTimeout
}

// request is the action that pressing o of n sends.
func (r *run) request(n *node, i int) map[string]any {
	o, label := n.options[i], r.label(n.options[i])
	if o.intent != "" {
		return map[string]any{"type": "intent", "payload": map[string]any{
			"query": label, "label": label, "intent": map[string]any{"name": o.intent}, "entities": []any{},
		}}
	}
	return map[string]any{"type": pathType(n, i), "payload": map[string]any{"label": label}}
}

func pathType(n *node, i int) string { return "path-" + n.id + strconv.Itoa(i+1) }

func (r *run) buttonList(n *node) []any {
	list := []any{}
	for i, o := range n.options {
		if o.button != "" {
			list = append(list, map[string]any{"name": r.label(o), "request": r.request(n, i)})
		}
	}
	return list
}

func (r *run) buttons(n *node) {
	if list := r.buttonList(n); len(list) > 0 {
		r.emit("choice", map[string]any{"buttons": list})
	}
}

func (r *run) card(n *node) map[string]any {
	c, _ := fillAll(n.payload, r.st.Variables).(map[string]any)
	c["buttons"] = r.buttonList(n)
	return c
}

// read understands a as words: those of a text, or of an intent that the client
// found itself. It is false for every other action.
func (r *run) read(a *wireAction, n *node) (understood, bool) {
	var scope []string
	if n != nil {
		for _, o := range n.options {
			scope = append(scope, o.intent)
		}
	}
	switch a.Type {
	case "text":
		var words string
		_ = json.Unmarshal(a.Payload, &words) // anything else says nothing
		return r.heard(words, scope), true
	case "message":
		var p struct {
			Message string `json:"message"`
		}
		if r.flow.modern && json.Unmarshal(a.Payload, &p) == nil {
			return r.heard(p.Message, scope), true
		}
	case "dtmf":
		var digits string
		if r.flow.modern && json.Unmarshal(a.Payload, &digits) == nil {
			return r.heard(digits, scope), true
		}
	case "intent":
		var p dialog.IntentPayload
		_ = json.Unmarshal(a.Payload, &p) // an intent without a name matches nothing
		u := understood{intent: p.Intent.Name, query: p.Query, entities: map[string]string{}}
		for _, e := range p.Entities {
			u.entities[e.Name] = e.Value
		}
		r.st.Variables["last_utterance"] = u.query
		r.st.Variables["intent_confidence"] = p.Confidence * 100
		return u, true
	}
	return understood{}, false
}

func (r *run) heard(words string, scope []string) understood {
	u := r.flow.understand(words, scope)
	r.st.Variables["last_utterance"] = words
	r.st.Variables["intent_confidence"] = 100.0
	list := []any{}
	for name, v := range u.entities {
		list = append(list, map[string]any{"name": name, "value": v})
	}
	r.st.Variables["last_event"] = map[string]any{"type": "intent", "ELICIT": false, "payload": map[string]any{
		"query": words, "intent": map[string]any{"name": u.intent}, "entities": list, "confidence": 1.0,
	}}
	r.emit("debug", map[string]any{
		"type":    "intent",
		"message": "matched intent **" + u.intent + "** - confidence interval _100.00%_",
	})
	return u
}

// hear gives a to a step that listens.
func (r *run) hear(n *node, a *wireAction) {
	if a == nil { // the null request begins the step anew, without words
		r.emit("block", map[string]any{"blockID": n.id})
		r.st.Storage = storage{}
		r.listen(n)
		return
	}
	if a.Type == "no-reply" {
		r.emit("block", map[string]any{"blockID": n.id})
		r.silence(n)
		return
	}
	if r.event(a) {
		return
	}
	u, words := r.read(a, n)
	r.emit("block", map[string]any{"blockID": n.id})
	switch {
	case n.kind == kindCapture && words:
		if !n.own && r.command(u) {
			return
		}
		r.capture(n, u)
		return
	case words:
		if i, ok := r.option(n, u); ok {
			r.choose(n, i, u)
			return
		}
		if !n.own && r.command(u) {
			return
		}
	default:
		for i, o := range n.options {
			if o.intent == "" && !o.bare && a.Type == pathType(n, i) {
				r.st.Variables["last_utterance"] = o.button
				r.choose(n, i, understood{})
				return
			}
		}
	}
	r.mismatch(n)
}

// option finds the option of n that u means.
func (r *run) option(n *node, u understood) (int, bool) {
	for i, o := range n.options {
		if o.intent != "" && o.intent == u.intent {
			return i, true
		}
	}
	var labels []dialog.Button
	var index []int
	for i, o := range n.options {
		if o.button != "" && !o.bare {
			labels, index = append(labels, dialog.Button{Name: r.label(o)}), append(index, i)
		}
	}
	if i, ok := dialog.Match(labels, u.query); ok && (u.intent == "None" || u.intent == "") {
		return index[i], true
	}
	return 0, false
}

// choose takes option i, unless its intent still lacks an entity.
func (r *run) choose(n *node, i int, u understood) {
	if r.missing(u) {
		return
	}
	r.fillSlots(u)
	r.st.Storage = storage{}
	if n.kind == kindCapture {
		r.path("capture")
	} else {
		r.path("choice:" + strconv.Itoa(i+1))
	}
	r.take(n, n.options[i].target)
}

// take follows t out of n.
func (r *run) take(n *node, t target) {
	if t.lost {
		r.proceed(nil)
		return
	}
	r.stand(n)
	r.proceed(t.first)
}

func (r *run) fillSlots(u understood) {
	for name, v := range u.entities {
		r.st.Variables[name] = v
	}
}

// missing asks for the first required entity that u lacks.
func (r *run) missing(u understood) bool {
	in := r.flow.intents[u.intent]
	if in == nil {
		return false
	}
	for _, e := range in.entities {
		if e.prompt == "" || u.entities[e.name] != "" {
			continue
		}
		r.st.Storage.Filling = &filling{Intent: u.intent, Query: u.query, Entity: e.name, Entities: u.entities}
		r.say(fill(e.prompt, r.st.Variables), true)
		entities := []any{}
		for name, v := range u.entities {
			entities = append(entities, map[string]any{"name": name, "value": v})
		}
		r.emit("entity-filling", map[string]any{"entityToFill": e.name, "intent": map[string]any{
			"type":    "intent",
			"payload": map[string]any{"intent": map[string]any{"name": u.intent}, "query": u.query, "entities": entities},
		}})
		return true
	}
	return false
}

// continueFilling takes a as the entity that was asked for, as the same intent
// with more entities, or as something else.
func (r *run) continueFilling(n *node, a *wireAction) {
	f := r.st.Storage.Filling
	u, ok := r.read(a, n)
	if !ok {
		r.st.Storage.Filling = nil
		r.answer(n, a)
		return
	}
	merged := understood{intent: f.Intent, query: f.Query, entities: f.Entities}
	if merged.entities == nil {
		merged.entities = make(map[string]string)
	}
	maps.Copy(merged.entities, u.entities)
	in := r.flow.intents[f.Intent]
	if in != nil && merged.entities[f.Entity] == "" && a.Type != "intent" {
		if v, fits := in.value(f.Entity, u.query); fits && v != "" {
			merged.entities[f.Entity] = v
		}
	}
	r.st.Storage.Filling = nil
	if i, found := r.option(n, merged); found {
		r.choose(n, i, merged)
		return
	}
	if n.own || !r.command(merged) {
		r.mismatch(n)
	}
}

// capture stores what was said, where it fits the pattern.
func (r *run) capture(n *node, u understood) {
	if n.text == "" {
		r.captureEntities(n, u)
		return
	}
	value := u.query
	if n.pattern != nil {
		canonical := dialog.Canonical(value)
		value = ""
		for _, s := range []string{u.query, canonical, strings.ReplaceAll(canonical, " ", "")} {
			if m := n.pattern.FindString(s); m != "" {
				value = m
				break
			}
		}
	}
	if strings.TrimSpace(value) == "" {
		r.mismatch(n)
		return
	}
	r.st.Storage = storage{}
	r.st.Variables[n.text] = value
	r.path("capture")
	r.proceed(n.next)
}

// command follows an intent that is understood everywhere.
func (r *run) command(u understood) bool {
	for _, c := range r.flow.commands {
		if c.intent != u.intent {
			continue
		}
		if r.missing(u) {
			return true
		}
		r.fillSlots(u)
		if c.push && c.block != blockEnd && c.block != blockNowhere && len(r.st.Stack) < maxStack {
			r.path("push")
			r.proceed(r.down(c.block))
			return true
		}
		r.path("jump")
		r.st.Storage = storage{}
		if next, wait := r.jump(c.block); !wait {
			r.proceed(next)
		}
		return true
	}
	return false
}

// event starts what waits for an event, which only newer runtimes know.
func (r *run) event(a *wireAction) bool {
	if a.Type != "event" && a.Type != "end" || !r.flow.modern {
		return false
	}
	if a.Type == "end" {
		r.over()
		return true
	}
	var p struct {
		Event struct {
			Name string `json:"name"`
		} `json:"event"`
	}
	_ = json.Unmarshal(a.Payload, &p) // an event without a name starts nothing
	name, ok := r.flow.events[p.Event.Name]
	if !ok {
		return false
	}
	r.st.Storage = storage{}
	if next, wait := r.jump(name); !wait {
		r.proceed(next)
	}
	return true
}

// silence climbs the no-reply ladder of n: its own prompts, everyone's, its path.
func (r *run) silence(n *node) {
	l := n.listen.noReply
	if l == nil {
		l = &ladder{}
	}
	count := r.st.Storage.NoReplies
	r.st.Storage.NoReplies++
	switch {
	case count < len(l.rungs):
		r.path("reprompt")
		r.say(fill(l.rungs[count].say, r.st.Variables), false)
		timeout := r.timeout(n)
		if count+1 == len(l.rungs) && r.flow.global.noReplyTimeout > 0 {
			timeout = r.flow.global.noReplyTimeout // of the prompt that comes next
		}
		if own := l.rungs[count].timeout; own > 0 {
			timeout = own
		}
		r.again(n, timeout)
	case count == len(l.rungs) && r.flow.global.noReply != "":
		r.path("reprompt")
		r.say(fill(r.flow.global.noReply, r.st.Variables), false)
		r.again(n, r.timeout(n))
	default:
		r.st.Storage = storage{}
		r.path("choice:noReply")
		t := l.target
		t.lost = t.lost || !l.path
		r.take(n, t)
	}
}

// mismatch climbs the no-match ladder of n: its own prompts, its path, and
// without a path everyone's prompt for ever.
func (r *run) mismatch(n *node) {
	l := n.listen.noMatch
	if l == nil {
		l = &ladder{}
	}
	count := r.st.Storage.NoMatches
	r.st.Storage.NoMatches++
	switch {
	case count < len(l.rungs):
		r.path("reprompt")
		r.say(fill(l.rungs[count].say, r.st.Variables), false)
	case l.path:
		r.st.Storage = storage{}
		r.path("choice:else")
		r.take(n, l.target)
		return
	default:
		r.path("reprompt")
		if r.flow.global.noMatch != "" {
			r.say(fill(r.flow.global.noMatch, r.st.Variables), false)
		}
	}
	r.again(n, r.timeout(n))
}

// outcome takes the path of a custom action that a names. A command leaves the
// action, all else takes its default path; without one the conversation is over.
func (r *run) outcome(n *node, a *wireAction) {
	if a == nil {
		if next, wait := r.visit(n); !wait {
			r.proceed(next)
		}
		return
	}
	i := slices.IndexFunc(n.act.paths, func(p actionPath) bool { return p.name == a.Type })
	if i < 0 {
		if r.event(a) {
			return
		}
		if u, ok := r.read(a, n); ok && r.command(u) {
			return
		}
		i = n.act.fallback
	}
	r.emit("block", map[string]any{"blockID": n.id})
	if i < 0 {
		r.proceed(nil)
		return
	}
	r.take(n, n.act.paths[i].target)
}

// streaming reacts to the few things that long audio listens for.
func (r *run) streaming(n *node, a *wireAction) {
	if a == nil {
		r.stream(n, "PLAY")
		return
	}
	u, ok := r.read(a, n)
	if !ok {
		return
	}
	switch u.intent {
	case "VF.NEXT", "VF.STOP", "VF.PREVIOUS":
		r.stream(n, "END")
		r.proceed(n.next)
	case "VF.PAUSE":
		r.stream(n, "PAUSE")
	case "VF.RESUME":
		r.stream(n, "PLAY")
	default:
		r.command(u)
	}
}
