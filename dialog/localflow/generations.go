package localflow

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An endpoint is what serves a path: admit refuses who may not, serve answers.
type endpoint struct {
	admit func(*call) bool
	serve func(*call)
}

// route finds what serves a path, nil when nothing does.
func (s *Server) route(c *call) *endpoint {
	var parts []string
	for p := range strings.SplitSeq(strings.TrimPrefix(c.req.URL.EscapedPath(), "/"), "/") {
		text, err := url.PathUnescape(p)
		if err != nil || text == "" {
			return nil
		}
		parts = append(parts, text)
	}
	for _, find := range []func(*call, []string) *endpoint{s.routeState, s.routeStream, s.routeSession, s.routeStable, s.routePublic, s.routeStateless} {
		if e := find(c, parts); e != nil {
			return e
		}
	}
	return nil
}

// is reports whether parts has the form of pattern, in which * is anything.
func is(parts []string, pattern ...string) bool {
	return slices.EqualFunc(parts, pattern, func(p, want string) bool { return want == "*" || p == want })
}

func (c *call) of(user string) { c.user, c.noted.User = user, user }

// routeState is the Dialog Manager API: /state/user/{id}…, with a version id
// after /state in its oldest form.
func (s *Server) routeState(c *call, parts []string) *endpoint {
	if len(parts) > 3 && parts[0] == "state" && parts[2] == "user" {
		parts = append(parts[:1:1], parts[2:]...)
	}
	if len(parts) < 3 || len(parts) > 4 || parts[0] != "state" || parts[1] != "user" {
		return nil
	}
	c.of(parts[2])
	serve := map[string]func(*call){
		"GET ": s.getState, "PUT ": s.putState, "DELETE ": s.deleteState, "POST ": s.resetState,
		"POST interact": s.interact, "PATCH variables": s.patchVariables,
	}[c.req.Method+" "+strings.Join(parts[3:], "")]
	if serve == nil {
		return nil
	}
	return &endpoint{s.admit, serve}
}

// routeStream is the Dialog Manager API in events, and the form before it.
func (s *Server) routeStream(c *call, parts []string) *endpoint {
	if c.req.Method != http.MethodPost {
		return nil
	}
	switch {
	case is(parts, "v2", "project", "*", "user", "*", "interact", "stream"):
		c.of(parts[4])
		environment := c.req.URL.Query().Get("environment")
		if environment == "" {
			environment = "development"
		}
		return &endpoint{s.admitTo(environment, http.StatusNotFound, "environment does not exist"), s.streamed}
	case is(parts, "v2beta1", "interact", "*", "*", "stream"):
		return &endpoint{func(c *call) bool {
			if tag := parts[3]; tag != "production" && tag != "development" {
				c.coded(http.StatusBadRequest, "Invalid project version tag")
				return false
			}
			return s.admitTo(parts[3], http.StatusBadRequest, "Invalid project version tag")(c)
		}, s.streamedBeta}
	}
	return nil
}

// routeSession is v4: a session, whose key admits its turns.
func (s *Server) routeSession(c *call, parts []string) *endpoint {
	if c.req.Method != http.MethodPost {
		return nil
	}
	switch {
	case is(parts, "v4", "project", "*", "session"):
		return &endpoint{s.admitTo("", 0, ""), s.beginSession}
	case is(parts, "v4", "project", "*", "environment", "*", "session"):
		return &endpoint{s.admitTo(parts[4], http.StatusNotFound, "environment does not exist"), s.beginSession}
	case is(parts, "v4", "interact"):
		return &endpoint{s.admitSession, s.sessionTurn}
	case is(parts, "v4", "interact", "stream"):
		return &endpoint{s.admitSession, s.streamed}
	}
	return nil
}

// routeStable is the newest API, at its own address.
func (s *Server) routeStable(c *call, parts []string) *endpoint {
	if len(parts) < 4 || parts[0] != "v1" || parts[1] != "stable" {
		return nil
	}
	c.of(parts[3])
	serve := map[string]func(*call){
		"PUT conversation": s.sessionTurn, "GET conversation-state": s.getState, "DELETE conversation-state": s.deleteState,
		"PATCH conversation-state variables": s.patchStable,
	}[strings.Join(append([]string{c.req.Method, parts[2]}, parts[4:]...), " ")]
	if serve == nil {
		return nil
	}
	return &endpoint{s.admitStable, serve}
}

// routePublic is for web pages: it takes no key.
func (s *Server) routePublic(c *call, parts []string) *endpoint {
	if c.req.Method != http.MethodPost || !is(parts, "public", "*", "state", "user", "*", "interact") {
		return nil
	}
	c.of(parts[4])
	return &endpoint{func(*call) bool { return true }, func(c *call) {
		if a, body, ok := c.decode(); ok {
			s.serveTurn(c, exchange{action: a, body: body, write: func(traces []wireTrace, _ *state) []byte {
				return encode(map[string]any{"trace": traces})
			}})
		}
	}}
}

// routeStateless is the oldest API: the client keeps the state and sends it along.
func (s *Server) routeStateless(c *call, parts []string) *endpoint {
	switch {
	case c.req.Method == http.MethodGet && is(parts, "interact", "state"):
		return &endpoint{s.admit, func(c *call) { c.json(http.StatusOK, c.flow.initial()) }}
	case c.req.Method == http.MethodPost && is(parts, "interact"):
		return &endpoint{s.admit, s.stateless}
	}
	return nil
}

func (s *Server) stateless(c *call) {
	a, body, ok := c.decode()
	if !ok {
		return
	}
	var given struct {
		State *state `json:"state"`
	}
	if len(c.body) > 0 && json.Unmarshal(c.body, &given) != nil {
		c.field("state", "data is not a state")
		return
	}
	st := c.flow.initial()
	if given.State != nil && given.State.Stack != nil {
		st = given.State
	}
	if st.Variables == nil {
		st.Variables = map[string]any{}
	}
	s.serveTurn(c, exchange{action: a, body: body, state: st, write: func(traces []wireTrace, st *state) []byte {
		return encode(map[string]any{"request": a, "state": st, "trace": traces})
	}})
}

// admitTo checks key and rate, and that the environment is there; "" always is.
func (s *Server) admitTo(environment string, status int, refusal string) func(*call) bool {
	return func(c *call) bool {
		key := c.req.Header.Get("Authorization")
		c.noted.Environment = environment
		switch {
		case key == "" || len(c.flow.keys) > 0 && !slices.Contains(c.flow.keys, key):
			c.coded(http.StatusUnauthorized, "Auth Key Required")
		case !s.permit(c, key):
		case environment != "" && !c.flow.answersIn(environment):
			c.coded(status, refusal)
		default:
			return true
		}
		return false
	}
}

// answersIn reports whether the flow is published there. What is no alias is an
// id, of which any will do.
func (f *Flow) answersIn(environment string) bool {
	aliases := []string{"production", "development", "staging", "main"}
	return len(f.environments) == 0 || slices.Contains(f.environments, environment) || !slices.Contains(aliases, environment)
}

// beginSession answers with a key, and ends the session that the user had.
func (s *Server) beginSession(c *call) {
	var body struct {
		UserID string `json:"userID"`
	}
	if json.Unmarshal(c.body, &body) != nil || body.UserID == "" || len(body.UserID) > 256 {
		c.field("userID", "must be a string of 1 to 256 characters")
		return
	}
	c.of(body.UserID)
	key := base64.RawURLEncoding.EncodeToString([]byte(body.UserID)) + "." + rand.Text()
	s.sessions.begin(body.UserID, key, time.Now())
	c.json(http.StatusOK, map[string]any{"sessionKey": key})
}

// admitSession finds whose session a key is.
func (s *Server) admitSession(c *call) bool {
	key := c.req.Header.Get("Authorization")
	name, _, _ := strings.Cut(key, ".")
	user, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || !s.sessions.has(string(user), key) {
		c.coded(http.StatusUnauthorized, "invalid session key")
		return false
	}
	c.of(string(user))
	return s.permit(c, key)
}

func (s *Server) admitStable(c *call) bool {
	token, ok := strings.CutPrefix(c.req.Header.Get("Authorization"), "Bearer ")
	query := c.req.URL.Query()
	c.noted.Environment = query.Get("environmentAlias")
	var problem string
	status := http.StatusBadRequest
	switch {
	case !ok || token == "" || len(c.flow.keys) > 0 && !slices.Contains(c.flow.keys, token):
		problem, status = "invalid token", http.StatusUnauthorized
	case query.Get("projectID") == "":
		problem = "projectID is required"
	case !c.flow.answersIn(c.noted.Environment):
		problem = "invalid environment tag"
	default:
		return s.permit(c, token)
	}
	c.json(status, map[string]any{"statusCode": status, "message": problem})
	return false
}

// patchStable is patchVariables with the variables as a member.
func (s *Server) patchStable(c *call) {
	var body struct {
		Variables json.RawMessage `json:"variables"`
	}
	if json.Unmarshal(c.body, &body) != nil || len(body.Variables) == 0 {
		c.json(http.StatusBadRequest, map[string]any{"statusCode": http.StatusBadRequest, "message": "variables are required"})
		return
	}
	c.body = body.Variables
	s.patchVariables(c)
}

// sessionTurn answers a turn of v4 and stable. The engine behind them knows all
// actions, whatever the flow says.
func (s *Server) sessionTurn(c *call) {
	a, body, ok := c.decode()
	if !ok {
		return
	}
	c.modern()
	if strings.HasPrefix(c.req.URL.Path, "/v4/") {
		body.merge()
	}
	s.serveTurn(c, exchange{action: a, body: body, write: func(traces []wireTrace, _ *state) []byte {
		return encode(map[string]any{"traces": traces})
	}})
}

func (c *call) modern() {
	flow := *c.flow
	flow.modern = true
	c.flow = &flow
}

// streamed answers a turn in events. Streams come as the flow runs: nothing is
// hidden and SSML stays.
func (s *Server) streamed(c *call) {
	a, body, ok := c.decode()
	if !ok {
		return
	}
	body.merge()
	query := c.req.URL.Query()
	pieces, whole := query.Get("completion_events") == "true", query.Get("state") == "true"
	if strings.HasPrefix(c.req.URL.Path, "/v4/") {
		pieces, whole = body.Config.CompletionEvents, false
		c.modern()
	}
	s.serveTurn(c, exchange{action: a, body: body, stream: true, write: func(traces []wireTrace, st *state) []byte {
		e := events{}
		e.b.WriteString("\n")
		for _, t := range traces {
			for _, piece := range inPieces(t, pieces) {
				e.add("trace", encode(piece))
			}
		}
		if whole {
			e.add("state", encode(st))
		}
		e.add("end", nil)
		return e.b.Bytes()
	}})
}

// streamedBeta is the oldest stream, whose events wrap what they carry.
func (s *Server) streamedBeta(c *call) {
	a, body, ok := c.decode()
	if !ok {
		return
	}
	var who struct {
		UserID    string `json:"userID"`
		SessionID string `json:"sessionID"`
	}
	if json.Unmarshal(body.Session, &who) != nil || who.UserID == "" {
		c.field("session.userID", "Invalid value")
		return
	}
	c.of(who.UserID + who.SessionID)
	s.serveTurn(c, exchange{action: a, body: body, stream: true, write: func(traces []wireTrace, st *state) []byte {
		e := events{tight: true}
		e.b.WriteString("retry:2000\n\n")
		for _, t := range traces {
			e.add("trace", encode(map[string]any{"type": "trace", "trace": t}))
		}
		e.add("state", encode(map[string]any{"type": "state", "state": st}))
		e.add("end", encode(map[string]any{"type": "end"}))
		return e.b.Bytes()
	}})
}

// events writes server-sent events.
type events struct {
	b     bytes.Buffer
	tight bool // no space after the colon
	n     int
}

func (e *events) add(name string, data []byte) {
	e.n++
	sep := ": "
	if e.tight {
		sep = ":"
	}
	e.b.WriteString("event" + sep + name + "\nid" + sep + strconv.Itoa(e.n) + "\n")
	if data != nil {
		e.b.WriteString("data" + sep + string(data) + "\n")
	}
	e.b.WriteString("\n")
}

// wordPiece is a word with the space before it, as models make them.
var wordPiece = regexp.MustCompile(`\s*\S+`)

// inPieces is a text trace as a model streams it, any other trace as it is.
func inPieces(t wireTrace, pieces bool) []wireTrace {
	var p struct {
		Message string `json:"message"`
	}
	if !pieces || t.Type != "text" || json.Unmarshal(t.Payload, &p) != nil {
		return []wireTrace{t}
	}
	part := func(payload map[string]any) wireTrace {
		return wireTrace{Time: t.Time, Type: "completion", Payload: encode(payload)}
	}
	list := []wireTrace{part(map[string]any{"state": "start", "messageID": "m"})}
	for _, w := range wordPiece.FindAllString(p.Message, -1) {
		list = append(list, part(map[string]any{"state": "content", "content": w}))
	}
	return append(list, part(map[string]any{"state": "end"}))
}

// An exchange is one turn and how its answer is written.
type exchange struct {
	action *wireAction
	body   interactBody
	logs   bool
	stream bool
	state  *state // the client's own; nil: that of the session
	write  func(traces []wireTrace, st *state) []byte
}

// serveTurn runs a turn of the call's user and answers it, in the manner of a
// fault where one is meant for it.
func (s *Server) serveTurn(c *call, x exchange) {
	contentType := "application/json; charset=utf-8"
	if x.stream {
		contentType = "text/event-stream"
		keep, none := false, []string{}
		x.body.Config.StripSSML, x.body.Config.ExcludeTypes = &keep, &none
	}
	st, turn := x.state, 0
	if st == nil {
		st, turn = s.sessions.turn(c.user, time.Now())
	}
	c.noted.Turn = turn
	fault := s.fault(c.req, c.user, turn, x.body.State.Variables)
	if fault == nil {
		fault = &Fault{}
	}
	status, answer := http.StatusOK, []byte(nil)
	if !fault.replaces() || fault.Executed {
		answer = x.write(s.play(c, st, x), st)
	}
	s.hold(c.req.Context(), fault.Delay)
	c.noted.Status = status
	if fault.Status != 0 {
		c.noted.Status = fault.Status
	}
	s.logTurn(c)
	s.note(c) // before the client knows the answer
	s.spoil(c, fault, status, contentType, answer)
}
