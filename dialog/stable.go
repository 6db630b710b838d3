package dialog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"go.uber.org/zap"
)

func init() {
	register(apiStable, generation{
		cloud: "https://realtime-api.voiceflow.com", project: true, token: true,
		auto: []string{"main", "production", "development"},
		open: func(w *wire, c Caller) conversation { return &stableSession{wire: w, caller: c} },
	})
}

// stableSession is a conversation over the newest API: one PUT per turn.
type stableSession struct {
	*wire
	caller Caller
	live   atomic.Bool // a turn was sent, and the flow has not ended since
}

// stableBody is the body of a turn. The service hides no trace unless told.
type stableBody struct {
	Action    Action       `json:"action"`
	Version   string       `json:"version"`
	SessionID string       `json:"sessionID,omitempty"`
	Config    stableConfig `json:"config"`
}

type stableConfig struct {
	ExcludeTypes []string `json:"excludeTypes"`
}

// stableVersion is what callers reach: what is on the canvas is not for them.
const stableVersion = "published"

// Interact implements Session. Variables do not travel with a turn here: they go
// before it, and a turn whose variables were refused is not sent.
func (s *stableSession) Interact(ctx context.Context, t Turn, each func(Trace) error) (TurnInfo, error) {
	hidden := []string{"block", "debug", "flow"}
	if t.Debug {
		hidden = []string{"block", "flow"}
	}
	body, err := encode(stableBody{
		Action: t.Action, Version: stableVersion, SessionID: s.caller.Call, Config: stableConfig{ExcludeTypes: hidden},
	})
	if err != nil {
		return unencodable(err)
	}
	late := false // a conversation that has not begun may have no variables to set
	if err := s.SetVariables(ctx, t.Variables); err != nil {
		te, ok := errors.AsType[*TurnError](err)
		late = ok && te.Status == http.StatusNotFound && t.Action.Type == ActionLaunch
		if !late {
			return TurnInfo{Remaining: -1}, notRun(err)
		}
	}
	r := s.request(http.MethodPut, "conversation", "")
	r.body = body
	info, err := s.send(ctx, r, each)
	if late && err == nil {
		if err := s.SetVariables(ctx, t.Variables); err != nil {
			s.log.Warn("variables of the launch are lost", zap.Error(err))
		}
	}
	return info, err
}

func (s *stableSession) send(ctx context.Context, r request, each func(Trace) error) (TurnInfo, error) {
	return turn(func(read func(*answer) error) (TurnInfo, error) {
		s.live.Store(true)
		return s.do(ctx, r, read)
	}, readAnswer, func(t Trace) error {
		if t.Type == ActionEnd {
			s.live.Store(false)
		}
		return each(t)
	})
}

// State implements Session.
func (s *stableSession) State(ctx context.Context) (State, error) {
	return s.state(ctx, s.request(http.MethodGet, "conversation-state", ""))
}

// SetVariables implements Session.
func (s *stableSession) SetVariables(ctx context.Context, v map[string]any) error {
	if len(v) == 0 {
		return nil
	}
	return s.patch(ctx, s.request(http.MethodPatch, "conversation-state", "/variables"), map[string]any{"variables": v})
}

// Close implements Session: the service is told that the caller has gone, unless
// the flow has ended by itself.
func (s *stableSession) Close(ctx context.Context, reason string) error {
	if !s.live.Load() {
		return nil
	}
	_, err := s.Interact(ctx, Turn{Action: over(reason)}, func(Trace) error { return nil })
	if err != nil {
		return fmt.Errorf("end conversation: %w", err)
	}
	return nil
}

// forget deletes the conversation at the service.
func (s *stableSession) forget(ctx context.Context) error {
	_, err := s.do(ctx, s.request(http.MethodDelete, "conversation-state", ""), nil)
	return err
}

// request is one about the conversation.
func (s *stableSession) request(method, what, below string) request {
	r := request{
		method: method, path: "/v1/stable/" + what + "/" + escapeSegment(s.caller.ID) + below,
		query: url.Values{"projectID": {s.conf.Project}},
		in:    func(r *request, environment string) { r.query.Set("environmentAlias", environment) },
	}
	if what == "conversation-state" {
		r.query.Set("version", stableVersion)
	}
	return r
}
