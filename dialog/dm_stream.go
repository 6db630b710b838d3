package dialog

import (
	"context"
	"net/http"
	"net/url"
)

func init() {
	register(apiStream, generation{
		cloud: runtimeCloud, voice: true, project: true, auto: []string{"production", "main", "development"},
		open: func(w *wire, c Caller) conversation { return &streamSession{dmSession{wire: w, caller: c}} },
	})
}

// streamSession is a conversation whose turns come as events while the flow
// runs. Its state is that of the Dialog Manager API.
type streamSession struct{ dmSession }

// streamBody is the body of a streamed turn. There is no config: which actions
// stop the flow is the project's alone.
type streamBody struct {
	Action    Action         `json:"action"`
	Variables map[string]any `json:"variables,omitempty"`
	SessionID string         `json:"sessionID,omitempty"`
}

// Interact implements Session. A stream that breaks is never taken up again: the
// service has no way to say what was missed without another step.
func (s *streamSession) Interact(ctx context.Context, t Turn, each func(Trace) error) (TurnInfo, error) {
	body, err := encode(streamBody{Action: t.Action, Variables: t.Variables, SessionID: s.caller.Call})
	if err != nil {
		return unencodable(err)
	}
	r := s.request(http.MethodPost, "")
	r.path = "/v2/project/" + escapeSegment(s.conf.Project) + "/user/" + escapeSegment(s.caller.ID) + "/interact/stream"
	r.body, r.stream = body, true
	r.query = url.Values{"completion_events": {"true"}}
	if t.TTS {
		// Words in pieces would have no voice.
		r.query = url.Values{"audio_events": {"true"}, "audio_encoding": {encodingMulaw}}
	}
	r.in = func(r *request, environment string) { r.query.Set("environment", environment) }
	return turn(func(read func(*answer) error) (TurnInfo, error) { return s.do(ctx, r, read) }, readEvents, each)
}

// encodingMulaw is the sound of telephones, 8000 samples a second.
const encodingMulaw = "audio/x-mulaw"
