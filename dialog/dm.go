package dialog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

func init() {
	registry.Add(&Clients, "dm", DefaultConfig, func(_ context.Context, c Config, d registry.Deps) (Client, error) {
		c.HTTP, c.Log = d.HTTP, d.Log
		return NewDM(c)
	})
}

// dm speaks the Dialog Manager API: one POST per turn, answered by an array of
// traces.
type dm struct {
	conf Config
	http *http.Client
	log  *zap.Logger
	// chosen is the environment that answered last, nil before the first answer.
	chosen atomic.Pointer[string]
}

// NewDM returns a client of the Dialog Manager API. The error is that of
// Config.Validate.
func NewDM(c Config) (Client, error) { return newDM(c) }

func newDM(c Config) (*dm, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("voiceflow: %w", err)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && !local(u.Hostname()) {
		c.Log.Warn("voiceflow key and conversations travel unencrypted", zap.String("url", c.URL))
	}
	return &dm{conf: c, http: httpClient(c.HTTP), log: c.Log}, nil
}

// Open implements Client. It sends nothing; the error is that of an ID which
// cannot name a session.
func (d *dm) Open(_ context.Context, c Caller) (Session, error) { return d.open(c) }

func (d *dm) open(c Caller) (*dmSession, error) {
	if c.Call == "" {
		c.Call = c.ID
	}
	switch {
	case c.ID == "" || len(c.ID) > 128:
		return nil, fmt.Errorf("open session: the id has %d characters, 1 to 128 are allowed", len(c.ID))
	case c.ID == "." || c.ID == "..":
		return nil, fmt.Errorf("open session: the id %q is a part of a path", c.ID)
	case strings.ContainsFunc(c.ID+c.Call, func(r rune) bool { return r < 0x20 || r == 0x7F }):
		return nil, errors.New("open session: the id holds control characters")
	}
	return &dmSession{dm: d, caller: c}, nil
}

// dmSession is one caller's conversation. It has no state of its own: all of it
// is the service's.
type dmSession struct {
	dm     *dm
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
		return TurnInfo{Remaining: -1}, &TurnError{Message: "the action cannot be encoded", Err: err}
	}
	r := request{method: http.MethodPost, path: s.path() + "/interact", body: encoded, session: s.caller.Call}
	received := 0
	info, err := s.dm.do(ctx, r, func(a *answer) error {
		err := readTraces(a.body, func(tr Trace) error {
			if received == 0 {
				a.info.First = time.Since(a.began)
			}
			received++
			return each(tr)
		})
		if err != nil && received == 0 && !strings.Contains(a.contentType, "json") && !isEach(err) {
			err = fmt.Errorf("%w (%s)", err, printableText(a.contentType, 60))
		}
		return err
	})
	if mine, ok := errors.AsType[*eachError](err); ok {
		return info, mine.err
	}
	if te, ok := errors.AsType[*TurnError](err); ok {
		te.Received = received
	}
	return info, err
}

func isEach(err error) bool {
	var mine *eachError
	return errors.As(err, &mine)
}

// State implements Session. The state of a user that the service does not know
// is empty.
func (s *dmSession) State(ctx context.Context) (State, error) {
	var st State
	_, err := s.dm.do(ctx, request{method: http.MethodGet, path: s.path(), session: s.caller.Call}, func(a *answer) error {
		dec := json.NewDecoder(&printable{r: &capped{r: a.body, left: maxTurnBytes}})
		if err := dec.Decode(&st); err != nil {
			return readError(err)
		}
		return nil
	})
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	return st, nil
}

// SetVariables implements Session.
func (s *dmSession) SetVariables(ctx context.Context, v map[string]any) error {
	if len(v) == 0 {
		return nil
	}
	body, err := encode(v)
	if err != nil {
		return fmt.Errorf("set variables: %w", err)
	}
	r := request{method: http.MethodPatch, path: s.path() + "/variables", body: body, session: s.caller.Call}
	if _, err := s.dm.do(ctx, r, nil); err != nil {
		return fmt.Errorf("set variables: %w", err)
	}
	return nil
}

// Close implements Session. This API has no way to say that the caller has gone:
// its runtime would answer an end action with a re-prompt.
func (s *dmSession) Close(context.Context, string) error { return nil }

// forget deletes the conversation at the service.
func (s *dmSession) forget(ctx context.Context) error {
	_, err := s.dm.do(ctx, request{method: http.MethodDelete, path: s.path(), session: s.caller.Call}, nil)
	return err
}

func (s *dmSession) path() string { return "/state/user/" + escapeSegment(s.caller.ID) }

// do sends r to the environments that may be meant, until one knows itself, and
// repeats what surely was not executed. An environment that is not there is
// refused before anything runs, so that trying the next one is safe.
func (d *dm) do(ctx context.Context, r request, read func(*answer) error) (TurnInfo, error) {
	info := TurnInfo{Remaining: -1}
	var refused error
	for _, env := range d.order() {
		r.environment = env
		err := d.repeat(ctx, r, &info, read)
		var te *TurnError
		if errors.As(err, &te) && d.automatic() && unknownEnvironment(te) {
			d.forgetChoice(env)
			if refused == nil {
				refused = err
			}
			d.log.Debug("environment is not there", zap.String("environment", env), zap.String("answer", te.Message))
			continue
		}
		if info.Status >= 200 && info.Status < 300 {
			d.choose(env)
		}
		return info, err
	}
	return info, refused
}

func (d *dm) automatic() bool { return len(d.conf.candidates()) > 1 }

// order is the environments to try: the one that answered last comes first.
func (d *dm) order() []string {
	all := d.conf.candidates()
	last := d.chosen.Load()
	if last == nil {
		return all
	}
	order := []string{*last}
	for _, env := range all {
		if env != *last {
			order = append(order, env)
		}
	}
	return order
}

func (d *dm) choose(env string) {
	if last := d.chosen.Load(); last != nil && *last == env {
		return
	}
	d.chosen.Store(&env)
	if d.automatic() {
		d.log.Info("voiceflow environment chosen", zap.String("environment", env))
	}
}

func (d *dm) forgetChoice(env string) {
	if last := d.chosen.Load(); last != nil && *last == env {
		d.chosen.CompareAndSwap(last, nil)
	}
}
