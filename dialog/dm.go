package dialog

import (
	"context"
	"net/http"
)

func init() {
	register(apiDM, generation{
		cloud: runtimeCloud, voice: true, auto: []string{"production", "main", "development"},
		open: func(w *wire, c Caller) conversation { return &dmSession{wire: w, caller: c} },
	})
}

// dmSession is one caller's conversation over the Dialog Manager API: one POST
// per turn, answered by an array of traces. It has no state of its own: all of
// it is the service's.
type dmSession struct {
	*wire
	caller Caller
}

// turnBody is the body of a turn. Config travels every time, the service does
// not remember it.
type turnBody struct {
	Action Action     `json:"action"`
	Config turnConfig `json:"config"`
	State  *turnState `json:"state,omitempty"`
}

type turnConfig struct {
	TTS          bool     `json:"tts"`
	StripSSML    bool     `json:"stripSSML"`
	StopTypes    []string `json:"stopTypes"`
	ExcludeTypes []string `json:"excludeTypes,omitempty"` // replaces the default: block, debug, flow
}

type turnState struct {
	Variables map[string]any `json:"variables"`
}

// Interact implements Session.
func (s *dmSession) Interact(ctx context.Context, t Turn, each func(Trace) error) (TurnInfo, error) {
	body := turnBody{Action: t.Action, Config: turnConfig{TTS: t.TTS, StopTypes: t.StopTypes}}
	if body.Config.StopTypes == nil {
		body.Config.StopTypes = []string{}
	}
	if t.Debug {
		body.Config.ExcludeTypes = []string{"block", "flow"}
	}
	if len(t.Variables) > 0 {
		body.State = &turnState{Variables: t.Variables}
	}
	encoded, err := encode(body)
	if err != nil {
		return unencodable(err)
	}
	r := s.request(http.MethodPost, "/interact")
	r.body = encoded
	return turn(func(read func(*answer) error) (TurnInfo, error) { return s.do(ctx, r, read) }, readAnswer, each)
}

// State implements Session. The state of a user that the service does not know
// is empty.
func (s *dmSession) State(ctx context.Context) (State, error) {
	return s.state(ctx, s.request(http.MethodGet, ""))
}

// SetVariables implements Session.
func (s *dmSession) SetVariables(ctx context.Context, v map[string]any) error {
	if len(v) == 0 {
		return nil
	}
	return s.patch(ctx, s.request(http.MethodPatch, "/variables"), v)
}

// Close implements Session. This API has no way to say that the caller has gone:
// its runtime would answer an end action with a re-prompt.
func (s *dmSession) Close(context.Context, string) error { return nil }

// forget deletes the conversation at the service.
func (s *dmSession) forget(ctx context.Context) error {
	_, err := s.do(ctx, s.request(http.MethodDelete, ""), nil)
	return err
}

// request is one below the conversation's own address.
func (s *dmSession) request(method, below string) request {
	r := request{method: method, path: "/state/user/" + escapeSegment(s.caller.ID) + below, header: http.Header{}, in: inVersion}
	r.header.Set("sessionID", escapeSegment(s.caller.Call))
	if s.conf.Project != "" {
		r.header.Set("projectID", s.conf.Project)
	}
	return r
}

// inVersion puts the environment into the header that the service calls
// versionID; header names have no case.
func inVersion(r *request, environment string) { r.header.Set("versionID", environment) }
