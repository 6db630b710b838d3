package localflow

import (
	"encoding/json"

	"go.uber.org/zap"
)

// words returns what n says this time: one of its variants, if it has any.
func (r *run) words(n *node) string {
	if len(n.variants) > 0 {
		return n.variants[r.pick(len(n.variants))]
	}
	return n.text
}

// label is the name of a button as the caller gets it.
func (r *run) label(o option) string { return fill(o.button, r.st.Variables) }

// branchOf returns where n, a condition or a random step, leads this time.
func (r *run) branchOf(n *node) *node {
	if n.kind == kindRandom {
		if len(n.cases) == 0 {
			return nil
		}
		return n.cases[r.pick(len(n.cases))].target.first
	}
	for _, c := range n.cases {
		if truth(c.cond(r.st.Variables)) {
			return c.target.first
		}
	}
	return n.otherwise.first
}

// unknown tells that a step of a project is passed over.
func (r *run) unknown(n *node) {
	r.logger.Warn("step is not understood and passed over", zap.String("step", n.id), zap.String("type", n.text))
	r.emit("debug", map[string]any{"message": "the step of the type " + n.text + " is not understood here: it is passed over"})
}

// body is the payload of a custom action. One written as JSON is read after its
// variables are filled in; what is no JSON then goes out as text.
func (r *run) body(n *node) any {
	if n.act.source == "" {
		return fillAll(n.payload, r.st.Variables)
	}
	var v any
	if json.Unmarshal([]byte(n.act.source), &v) == nil {
		return fillAll(v, r.st.Variables)
	}
	filled := fill(n.act.source, r.st.Variables)
	if json.Unmarshal([]byte(filled), &v) == nil {
		return v
	}
	return filled
}

// captureEntities takes what u says of the entities that n captures.
func (r *run) captureEntities(n *node, u understood) {
	in := r.flow.intents[n.options[0].intent]
	said := understood{intent: in.name, query: u.query, entities: in.collect(u.query)}
	if len(said.entities) == 0 {
		r.mismatch(n)
		return
	}
	r.choose(n, 0, said)
}

// collect finds entities in text: those with listed values or a pattern anywhere,
// a free one only when it is the only one.
func (in *intent) collect(text string) map[string]string {
	found := in.found(text)
	for _, e := range in.entities {
		if found[e.name] != "" {
			continue
		}
		if e.regex == nil && len(in.entities) > 1 {
			continue
		}
		if v, ok := e.value(text); ok && v != "" {
			found[e.name] = v
		}
	}
	return found
}
