package localflow

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
)

// interactBody is the body of a turn. Unknown members are ignored.
type interactBody struct {
	Action  json.RawMessage `json:"action"`
	Request json.RawMessage `json:"request"` // the old name of action
	Config  wireConfig      `json:"config"`
	State   struct {
		Variables map[string]any `json:"variables"`
	} `json:"state"`
	Variables json.RawMessage `json:"variables"` // where the newer APIs have them
	Session   json.RawMessage `json:"session"`   // of the oldest stream
}

// merge puts the variables of the newer APIs beside those of the state. What is
// no object is ignored.
func (b *interactBody) merge() {
	var v map[string]any
	_ = json.Unmarshal(b.Variables, &v)
	if b.State.Variables == nil {
		b.State.Variables = map[string]any{}
	}
	maps.Copy(b.State.Variables, v)
}

// decode reads the turn. A nil action is the null request.
func (c *call) decode() (*wireAction, interactBody, bool) {
	var body interactBody
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil, body, true
	}
	if !json.Valid(c.body) {
		c.fail(http.StatusBadRequest, map[string]any{"name": "SyntaxError", "message": syntaxError(c.body)})
		return nil, body, false
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		c.field("body", "Invalid value")
		return nil, body, false
	}
	raw := body.Action
	if len(raw) == 0 {
		raw = body.Request
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, body, true
	}
	var a wireAction
	if json.Unmarshal(raw, &a) != nil || a.Type == "" {
		c.json(http.StatusInternalServerError, map[string]any{
			"code": 500, "status": "Internal Server Error",
			"data": "Cannot read properties of undefined (reading 'startsWith')",
		})
		return nil, body, false
	}
	c.noted.Action = a.Type
	return &a, body, true
}

func syntaxError(body []byte) string {
	var v any
	err := json.Unmarshal(body, &v)
	if err == nil || strings.Contains(err.Error(), "unexpected end") {
		return "Unexpected end of JSON input"
	}
	return "Unexpected token in JSON"
}

// interact serves one turn.
func (s *Server) interact(c *call) {
	query := c.req.URL.Query()
	verbose := query.Get("verbose")
	switch verbose {
	case "", "true", "false", "1", "0":
	default:
		c.field("verbose", "Invalid value")
		return
	}
	logs := query.Get("logs")
	switch logs {
	case "", "off", "error", "warn", "info", "verbose", "true", "false":
	default:
		c.field("logs", "must be a known log level, boolean, or undefined")
		return
	}
	a, body, ok := c.decode()
	if !ok {
		return
	}
	x := exchange{action: a, body: body, logs: logs == "info" || logs == "verbose" || logs == "true"}
	x.write = func(traces []wireTrace, st *state) []byte {
		if verbose == "true" || verbose == "1" {
			return encode(map[string]any{"state": st, "trace": traces, "request": a})
		}
		return encode(traces)
	}
	s.serveTurn(c, x)
}

// play runs the turn, saves the state and returns the traces that the client
// asked for.
func (s *Server) play(c *call, st *state, x exchange) []wireTrace {
	maps.Copy(st.Variables, x.body.State.Variables)
	r := &run{flow: c.flow, st: st, conf: x.body.Config, logs: x.logs, live: x.stream, now: time.Now, sleep: s.sleep, pick: s.pick, logger: s.log}
	r.turn(x.action, c.user)
	if x.state == nil {
		s.sessions.save(c.user, st, time.Now())
	}
	traces := r.visible()
	for _, t := range traces {
		c.noted.Traces = append(c.noted.Traces, t.Type)
	}
	if traces == nil {
		traces = []wireTrace{}
	}
	return traces
}

func (s *Server) logTurn(c *call) {
	s.log.Debug("turn", zap.String("user", c.user), zap.Int("turn", c.noted.Turn), zap.String("action", c.noted.Action),
		zap.Int("status", c.noted.Status), zap.Strings("traces", c.noted.Traces))
}

// sleep waits, but not beyond Close.
func (s *Server) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closed:
	}
}

// hold delays an answer, for as long as there is a client to get it.
func (s *Server) hold(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closed:
	case <-ctx.Done():
	}
}

func (s *Server) getState(c *call) {
	st := s.sessions.load(c.user, time.Now())
	if st == nil {
		c.json(http.StatusOK, map[string]any{})
		return
	}
	c.json(http.StatusOK, st)
}

func (s *Server) putState(c *call) {
	var given map[string]json.RawMessage
	if json.Unmarshal(c.body, &given) != nil {
		c.fail(http.StatusBadRequest, map[string]any{"name": "SyntaxError", "message": syntaxError(c.body)})
		return
	}
	var missing []string
	for _, name := range []string{"stack", "storage", "variables"} {
		if given[name] == nil {
			missing = append(missing, "data should have required property '"+name+"'")
		}
	}
	for name := range given {
		if name != "stack" && name != "storage" && name != "variables" {
			missing = append(missing, "data should NOT have additional properties")
		}
	}
	if len(missing) > 0 {
		c.field("", strings.Join(missing, ", "))
		return
	}
	var st state
	if err := json.Unmarshal(c.body, &st); err != nil {
		c.field("", "data is not a state")
		return
	}
	for _, f := range st.Stack {
		if f.DiagramID == "" {
			c.field("", "data.stack[0] should have required property 'diagramID'")
			return
		}
	}
	if st.Stack == nil {
		st.Stack = []frame{}
	}
	if st.Variables == nil {
		st.Variables = map[string]any{}
	}
	s.sessions.save(c.user, &st, time.Now())
	c.json(http.StatusOK, json.RawMessage(c.body))
}

func (s *Server) deleteState(c *call) {
	s.sessions.remove(c.user)
	c.noted.Status = http.StatusOK
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.WriteHeader(http.StatusOK)
}

func (s *Server) resetState(c *call) {
	st := c.flow.initial()
	s.sessions.save(c.user, st, time.Now())
	c.json(http.StatusOK, st)
}

func (s *Server) patchVariables(c *call) {
	var v map[string]any
	if json.Unmarshal(c.body, &v) != nil {
		c.fail(http.StatusBadRequest, map[string]any{"name": "SyntaxError", "message": syntaxError(c.body)})
		return
	}
	st := s.sessions.load(c.user, time.Now())
	if st == nil {
		st = c.flow.initial()
	}
	maps.Copy(st.Variables, v)
	s.sessions.save(c.user, st, time.Now())
	c.json(http.StatusOK, st)
}
