package dialog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"

	"go.uber.org/zap"
)

func init() {
	for name, streamed := range map[string]bool{apiV4: false, apiV4Stream: true} {
		register(name, generation{
			// Without a name the service chooses the environment itself.
			cloud: runtimeCloud, project: true, auto: []string{EnvironmentAuto, "main", "production", "development"},
			open: func(w *wire, c Caller) conversation { return &v4Session{wire: w, caller: c, streamed: streamed} },
		})
	}
}

// ErrNoState is the error of reading a state that the API does not show.
var ErrNoState = errors.New("this api does not show the conversation's state")

// v4Session is a conversation that the service knows by a key. The key is asked
// for with the first turn.
type v4Session struct {
	*wire
	caller   Caller
	streamed bool

	mu          sync.Mutex
	key         string         // "" before the first turn
	environment string         // the one that the key is for
	waiting     map[string]any // variables that go with the next turn
	over        bool           // the flow has ended: nothing more is told
}

// v4Body is the body of a turn.
type v4Body struct {
	Action    Action         `json:"action"`
	Variables map[string]any `json:"variables,omitempty"`
	Config    *v4Config      `json:"config,omitempty"`
}

type v4Config struct {
	CompletionEvents bool `json:"completionEvents"`
}

// Interact implements Session.
func (s *v4Session) Interact(ctx context.Context, t Turn, each func(Trace) error) (TurnInfo, error) {
	variables := s.take(t.Variables)
	body := v4Body{Action: t.Action, Variables: variables}
	if s.streamed {
		body.Config = &v4Config{CompletionEvents: !t.TTS}
	}
	encoded, err := encode(body)
	if err != nil {
		return unencodable(err)
	}
	began, err := s.start(ctx)
	if err != nil {
		s.putBack(variables)
		return began, err
	}
	fresh := began.Attempts > 0
	info, err := s.send(ctx, encoded, began, each)
	if te, ok := errors.AsType[*TurnError](err); ok && te.Status == http.StatusUnauthorized && !fresh && t.Action.Type == ActionLaunch {
		// The key is too old. A launch loses nothing by a new session, everything
		// else would begin the conversation again.
		s.log.Debug("session key is refused, a new session begins")
		s.forgetKey()
		if began, err = s.start(ctx); err != nil {
			s.putBack(variables)
			return began, err
		}
		began.Attempts += info.Attempts
		info, err = s.send(ctx, encoded, began, each)
	}
	if te, ok := errors.AsType[*TurnError](err); ok && te.Executed == ExecutedNo {
		s.putBack(variables)
	}
	return info, err
}

// send sends a turn under the session's key. Info is that of the requests before.
func (s *v4Session) send(ctx context.Context, body []byte, info TurnInfo, each func(Trace) error) (TurnInfo, error) {
	s.mu.Lock()
	r := request{
		method: http.MethodPost, path: "/v4/interact", body: body, auth: s.key, environment: s.environment, stream: s.streamed,
	}
	s.over = false
	s.mu.Unlock()
	read := readAnswer
	if s.streamed {
		r.path, read = "/v4/interact/stream", readEvents
	}
	return turn(func(f func(*answer) error) (TurnInfo, error) {
		err := s.repeat(ctx, r, &info, f)
		return info, err
	}, read, func(t Trace) error {
		if t.Type == ActionEnd {
			s.mu.Lock()
			s.over = true
			s.mu.Unlock()
		}
		return each(t)
	})
}

// start gets a session key, unless there is one. It runs nothing of the flow, so
// that its failure is never that of a turn which may have been executed.
func (s *v4Session) start(ctx context.Context) (TurnInfo, error) {
	s.mu.Lock()
	known := s.key != ""
	s.mu.Unlock()
	if known {
		return TurnInfo{Remaining: -1}, nil
	}
	body, err := encode(map[string]string{"userID": s.caller.ID})
	if err != nil {
		return unencodable(err)
	}
	project := "/v4/project/" + escapeSegment(s.conf.Project)
	r := request{method: http.MethodPost, body: body, in: func(r *request, environment string) {
		r.path = project + "/session"
		if environment != EnvironmentAuto {
			r.path = project + "/environment/" + escapeSegment(environment) + "/session"
		}
	}}
	var answered struct {
		SessionKey string `json:"sessionKey"`
	}
	info, err := s.do(ctx, r, func(a *answer) error {
		dec := json.NewDecoder(&printable{r: &capped{r: a.body, left: maxTraceBytes}})
		if err := dec.Decode(&answered); err != nil {
			return readError(err)
		}
		if !headerToken.MatchString(answered.SessionKey) {
			return errors.New("the answer holds no session key")
		}
		return nil
	})
	if err != nil {
		return info, notRun(err)
	}
	s.mu.Lock()
	s.key, s.environment = answered.SessionKey, info.Environment
	s.mu.Unlock()
	s.log.Debug("session begun", zap.String("environment", info.Environment))
	return info, nil
}

func (s *v4Session) forgetKey() {
	s.mu.Lock()
	s.key = ""
	s.mu.Unlock()
}

// take returns the variables that wait, with v over them.
func (s *v4Session) take(v map[string]any) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.waiting
	s.waiting = nil
	if all == nil {
		return v
	}
	maps.Copy(all, v)
	return all
}

// putBack keeps variables of a turn that did not run for the next.
func (s *v4Session) putBack(v map[string]any) {
	if len(v) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := maps.Clone(v)
	maps.Copy(kept, s.waiting)
	s.waiting = kept
}

// State implements Session. It is always ErrNoState.
func (s *v4Session) State(context.Context) (State, error) {
	return State{}, fmt.Errorf("read state: %w", ErrNoState)
}

// SetVariables implements Session. This API takes variables with a turn alone:
// they are kept for the next, before whose step nothing could read them.
func (s *v4Session) SetVariables(_ context.Context, v map[string]any) error {
	if _, err := encode(v); err != nil {
		return fmt.Errorf("set variables: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil && len(v) > 0 {
		s.waiting = map[string]any{}
	}
	maps.Copy(s.waiting, v)
	return nil
}

// Close implements Session: the service is told that the caller has gone, unless
// the flow has ended by itself.
func (s *v4Session) Close(ctx context.Context, reason string) error {
	s.mu.Lock()
	tell := s.key != "" && !s.over
	s.mu.Unlock()
	if !tell {
		return nil
	}
	body, err := encode(v4Body{Action: over(reason)})
	if err != nil {
		return fmt.Errorf("end conversation: %w", err)
	}
	if _, err := s.send(ctx, body, TurnInfo{Remaining: -1}, func(Trace) error { return nil }); err != nil {
		return fmt.Errorf("end conversation: %w", err)
	}
	return nil
}

// forget ends the conversation: this API has no way to delete it.
func (s *v4Session) forget(ctx context.Context) error { return s.Close(ctx, "hangup") }
