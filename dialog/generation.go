package dialog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// A generation is one of Voiceflow's APIs. Each is a file that registers it.
type generation struct {
	cloud   string   // address of the public service
	project bool     // needs the project's id
	token   bool     // takes a personal access token, not a Dialog API key
	voice   bool     // sends the agent's voice where a turn asks for it
	auto    []string // the environments that "auto" tries, in this order
	open    func(w *wire, c Caller) conversation
}

// A conversation is a Session that a try can leave without a trace.
type conversation interface {
	Session
	forget(ctx context.Context) error
}

// The names of the generations, the values of Config.API.
const (
	apiDM       = "dm"
	apiStream   = "dm-stream"
	apiV4       = "v4"
	apiV4Stream = "v4-stream"
	apiStable   = "stable"
)

// runtimeCloud is where all generations but the newest are.
const runtimeCloud = "https://general-runtime.voiceflow.com"

var generations = map[string]generation{}

// register makes a generation known, to New and to Clients.
func register(name string, g generation) {
	generations[name] = g
	defaults := func() Config {
		c := DefaultConfig()
		c.API = name
		return c
	}
	registry.Add(&Clients, name, defaults, func(_ context.Context, c Config, d registry.Deps) (Client, error) {
		c.HTTP, c.Log = d.HTTP, d.Log
		return New(c)
	})
}

// Generations lists the values that Config.API may have.
func Generations() []string { return slices.Sorted(maps.Keys(generations)) }

// HasVoice reports whether the API called name sends Voiceflow's own voice.
func HasVoice(name string) bool { return generations[name].voice }

// New returns a client of the API that c names. The error is that of
// Config.Validate. Nothing is sent.
func New(c Config) (Client, error) { return newClient(c) }

// client is an agent behind one generation.
type client struct {
	*wire
	begin func(w *wire, c Caller) conversation
}

func newClient(c Config) (*client, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("voiceflow: %w", err)
	}
	g := c.generation()
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.URL == runtimeCloud {
		c.URL = g.cloud // a configuration that names no address has this one
	}
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && !local(u.Hostname()) {
		c.Log.Warn("voiceflow key and conversations travel unencrypted", zap.String("url", c.URL))
	}
	w := &wire{conf: c, http: httpClient(c.HTTP), log: c.Log, environments: c.candidates()}
	return &client{wire: w, begin: g.open}, nil
}

// Open implements Client. It sends nothing; the error is that of an ID which
// cannot name a session.
func (c *client) Open(_ context.Context, who Caller) (Session, error) { return c.open(who) }

func (c *client) open(who Caller) (conversation, error) {
	if who.Call == "" {
		who.Call = who.ID
	}
	switch {
	case who.ID == "" || len(who.ID) > 128:
		return nil, fmt.Errorf("open session: the id has %d characters, 1 to 128 are allowed", len(who.ID))
	case who.ID == "." || who.ID == "..":
		return nil, fmt.Errorf("open session: the id %q is a part of a path", who.ID)
	case strings.ContainsFunc(who.ID+who.Call, func(r rune) bool { return r < 0x20 || r == 0x7F }):
		return nil, errors.New("open session: the id holds control characters")
	}
	return c.begin(c.wire, who), nil
}

// A reader takes a turn's answer apart and gives its traces to each, whose error
// it returns as *eachError.
type reader func(a *answer, each func(Trace) error) error

// turn counts what a turn brings and makes its error that of Session.Interact.
// Send makes the requests and hands each 2xx answer to the function it is given.
func turn(send func(func(*answer) error) (TurnInfo, error), read reader, each func(Trace) error) (TurnInfo, error) {
	received := 0
	info, err := send(func(a *answer) error {
		err := read(a, func(tr Trace) error {
			if received == 0 {
				a.info.First = time.Since(a.began)
			}
			received++
			return each(tr)
		})
		if err != nil && received == 0 && !isEach(err) && !strings.Contains(a.contentType, "json") {
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

// readAnswer is the reader of an answer that comes in one piece.
func readAnswer(a *answer, each func(Trace) error) error { return readTraces(a.body, each) }

// unencodable is the failure of a turn whose action is no JSON.
func unencodable(err error) (TurnInfo, error) {
	return TurnInfo{Remaining: -1}, &TurnError{Message: "the action cannot be encoded", Err: err}
}

func isEach(err error) bool {
	var mine *eachError
	return errors.As(err, &mine)
}

// state reads the state that r asks for.
func (w *wire) state(ctx context.Context, r request) (State, error) {
	var st State
	_, err := w.do(ctx, r, func(a *answer) error {
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

// patch sends v as the body of r, which merges it into the flow's variables.
func (w *wire) patch(ctx context.Context, r request, v any) error {
	body, err := encode(v)
	if err == nil {
		r.method, r.body = http.MethodPatch, body
		_, err = w.do(ctx, r, nil)
	}
	if err != nil {
		return fmt.Errorf("set variables: %w", err)
	}
	return nil
}

// over is the action that tells of the call's end, to the APIs that know it.
func over(reason string) Action {
	return Action{Type: ActionEnd, Payload: map[string]string{"reason": reason}}
}

// notRun is err as the failure of a turn that was not sent.
func notRun(err error) error {
	te, ok := errors.AsType[*TurnError](err)
	if !ok {
		return &TurnError{Message: err.Error(), Err: err}
	}
	te.Executed = ExecutedNo
	return te
}
