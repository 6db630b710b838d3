package localflow

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// state is a conversation as the API shows and takes it. All of it survives a
// round trip through JSON, so that a state that was put is as good as one that
// came about.
type state struct {
	Stack     []frame        `json:"stack"`
	Storage   storage        `json:"storage"`
	Variables map[string]any `json:"variables"`
}

// frame is one level of the conversation: the step that it stands at. A step
// that called a block stands there until the block ends.
type frame struct {
	DiagramID string         `json:"diagramID"`
	NodeID    *string        `json:"nodeID"`
	Storage   frameStorage   `json:"storage"`
	Variables map[string]any `json:"variables"`
	Commands  []any          `json:"commands"`
}

type frameStorage struct {
	IsBase bool   `json:"isBase,omitempty"`
	Output string `json:"output,omitempty"` // last words, said again after a command
}

type storage struct {
	NoReplies int      `json:"noRepliesCounter,omitempty"`
	NoMatches int      `json:"noMatchesCounter,omitempty"`
	Filling   *filling `json:"entityFilling,omitempty"`
}

// filling is an intent that waits for its missing entities.
type filling struct {
	Intent   string            `json:"intent"`
	Query    string            `json:"query"`
	Entity   string            `json:"entity"`
	Entities map[string]string `json:"entities"`
}

// initial is the state that a reset leaves.
func (f *Flow) initial() *state {
	s := &state{
		Stack:     []frame{{DiagramID: f.diagram, Variables: map[string]any{}}},
		Variables: map[string]any{"sessions": 1.0},
	}
	for name, v := range f.variables {
		if v != nil {
			s.Variables[name] = clone(v)
		}
	}
	return s
}

// begin puts s at the start of the flow. Variables are kept.
func (f *Flow) begin(s *state, user string) {
	for name, v := range f.variables {
		if _, set := s.Variables[name]; !set {
			if v == nil {
				v = 0.0
			}
			s.Variables[name] = clone(v)
		}
	}
	for _, in := range f.intents {
		for _, e := range in.entities {
			if _, set := s.Variables[e.name]; !set {
				s.Variables[e.name] = 0.0
			}
		}
	}
	for _, name := range []string{"platform", "locale", "intent_confidence", "last_utterance", "last_response"} {
		if _, set := s.Variables[name]; !set {
			s.Variables[name] = 0.0
		}
	}
	s.Variables["user_id"] = 0.0
	if user != "" { // else the state is the client's, who counts for himself
		s.Variables["sessions"] = number(s.Variables["sessions"]) + 1
		s.Variables["user_id"] = user
	}
	s.Storage = storage{}
	s.Stack = []frame{
		{DiagramID: f.version, Storage: frameStorage{IsBase: true}, Variables: map[string]any{}, Commands: []any{}},
		{DiagramID: f.diagram, Variables: map[string]any{}, Commands: f.stateCommands()},
	}
}

// stateCommands are the flow's commands as a state shows them.
func (f *Flow) stateCommands() []any {
	list := make([]any, 0, len(f.commands))
	for _, c := range f.commands {
		m := map[string]any{"type": "jump", "event": map[string]any{"type": "intent", "intent": c.intent}, "nextID": c.block}
		if c.push {
			m["type"], m["diagramID"] = "push", c.block
			delete(m, "nextID")
		}
		list = append(list, m)
	}
	return list
}

func (s *state) top() *frame {
	if len(s.Stack) == 0 {
		return nil
	}
	return &s.Stack[len(s.Stack)-1]
}

func (s *state) stamp(now time.Time) { s.Variables["timestamp"] = float64(now.Unix()) }

// clone copies a value as JSON knows it.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, w := range v {
			m[k] = clone(w)
		}
		return m
	case []any:
		l := slices.Clone(v)
		for i := range l {
			l[i] = clone(l[i])
		}
		return l
	}
	return v
}

// copy is a state of its own, as a reader of a database gets it.
func (s *state) copy() *state {
	c := *s
	c.Stack = slices.Clone(s.Stack)
	for i := range c.Stack {
		c.Stack[i].Variables = maps.Clone(c.Stack[i].Variables)
	}
	c.Variables, _ = clone(s.Variables).(map[string]any)
	if s.Storage.Filling != nil {
		fill := *s.Storage.Filling
		fill.Entities = maps.Clone(fill.Entities)
		c.Storage.Filling = &fill
	}
	return &c
}

// show is how a value reads in speech.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// fill replaces {name} by the variable's value. A name that no variable has
// stays as it is, as the runtime leaves it.
func fill(text string, vars map[string]any) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return clip(place.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := vars[m[1:len(m)-1]]
		if !ok {
			return m
		}
		return show(v)
	}))
}

// maxValue bounds a text that a flow makes of others, in bytes.
const maxValue = 64 << 10

// clip keeps a flow that adds a text to itself from filling the memory.
func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue], "")
}

// fillAll is fill in every text of a value.
func fillAll(v any, vars map[string]any) any {
	switch v := v.(type) {
	case string:
		return fill(v, vars)
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, w := range v {
			m[k] = fillAll(w, vars)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, w := range v {
			l[i] = fillAll(w, vars)
		}
		return l
	}
	return v
}
