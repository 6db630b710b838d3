package call

import (
	"context"
	"errors"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/target"
	"github.com/ivrbridge/ivrbridge/media"
)

// Class is the kind of a call's end, for metrics and reports.
type Class string

// The classes of ends.
const (
	ClassCompleted    Class = "completed"
	ClassCallerHangup Class = "caller_hangup"
	ClassTransferred  Class = "transferred"
	ClassServerError  Class = "server_error"
	ClassUpstream     Class = "upstream_error"
	ClassMediaTimeout Class = "media_timeout"
	ClassClientError  Class = "client_error"
)

// An EndError is the cause found in a line's context: why it is over.
type EndError struct {
	Class Class
	Why   string // one plain sentence
}

// Error implements error.
func (e *EndError) Error() string { return e.Why }

func classOf(cause error) Class {
	if e, ok := errors.AsType[*EndError](cause); ok {
		return e.Class
	}
	return ClassServerError
}

func sentence(cause error) string {
	if e, ok := errors.AsType[*EndError](cause); ok {
		return e.Why
	}
	if cause == nil || errors.Is(cause, context.Canceled) {
		return "the line was closed"
	}
	return cause.Error()
}

// A Result is what is written about a call.
type Result struct {
	Info      Info
	Agent     string
	Session   string
	Began     time.Time
	Answered  time.Time // zero if it was not
	Ended     time.Time
	Class     Class
	Why       string // one plain sentence
	Turns     []Turn
	Handovers []Handover // in their order
	Media     media.Stats
	Keys      int
	BargeIns  int
	Failures  int           // turns that failed
	Dropped   time.Duration // sound that the recogniser did not take
	Deaf      bool          // the recogniser failed or was not there
}

// A Turn is one exchange with the agent.
type Turn struct {
	At       time.Time
	Action   string // type of the action
	Caller   string // words or keys
	Keyed    bool   // Caller is keys
	Agent    []string
	Latency  time.Duration // request to first audio of the answer; 0 if there was none
	Response time.Duration // end of the caller's speech to first audio; 0 if it does not apply
	Error    string
}

// A Handover is one attempt to hand the caller over: a hand-over to a name that
// stands for several targets makes one for each that it tries.
type Handover struct {
	Began   time.Time
	Target  string      // as it was called; as the flow gave it where it was refused
	Mode    target.Mode // how; ModeAny where it was refused
	Outcome machine.Outcome
	Cause   string
	Status  int // the last SIP status, of the REFER or of what it led to; 0: none came
	Took    time.Duration
}

// report gathers the result while the call runs. The call's goroutine owns it.
type report struct {
	res            Result
	class          Class
	why            string
	action         dialog.Action
	sentAt         time.Time
	spoke          time.Time // end of the caller's last speech
	waiting        bool      // for the first audio of the running turn
	words          string    // what the caller said last
	keyed          bool      // by keys
	recogniserDown bool
	dropped        time.Duration
	gotMedia       func() uint64
	observe        func(what string, d time.Duration)
}

func (r *report) begin(at time.Time) { r.res.Began = at }

func (r *report) answered(at time.Time) { r.res.Answered = at }

func (r *report) sent(at time.Time, a dialog.Action) {
	r.action, r.sentAt, r.waiting = a, at, true
	r.res.Turns = append(r.res.Turns, Turn{At: at, Action: a.Type, Caller: r.words, Keyed: r.keyed})
	r.words, r.keyed = "", false
}

func (r *report) speechEnded(at time.Time) { r.spoke = at }

// noted follows what the machine says about the conversation.
func (r *report) noted(_ time.Time, n machine.Note) {
	switch n.Kind {
	case machine.NoteCaller, machine.NoteKeys:
		r.words, r.keyed = n.Text, n.Kind == machine.NoteKeys
		if r.keyed {
			r.spoke = time.Time{}
		}
	case machine.NoteBargeIn:
		r.res.BargeIns++
	case machine.NoteTurnFailed:
		r.res.Failures++
		if t := r.turn(); t != nil {
			t.Error = n.Text
		}
	case machine.NoteStopOnAction, machine.NoteHold, machine.NoteResume, machine.NoteAction,
		machine.NoteUnhandled, machine.NoteNoHuman, machine.NoteNoReply, machine.NotePromptBad:
	}
}

func (r *report) turn() *Turn {
	if len(r.res.Turns) == 0 {
		return nil
	}
	return &r.res.Turns[len(r.res.Turns)-1]
}

// saying notes what the caller is told.
func (r *report) saying(it machine.Item) {
	t := r.turn()
	if t == nil || it.Loop || it.Kind == 0 {
		return
	}
	switch {
	case it.Prompt != "":
		t.Agent = append(t.Agent, "["+string(it.Prompt)+"]")
	case it.Text != "":
		t.Agent = append(t.Agent, it.Text)
	default:
		t.Agent = append(t.Agent, "[audio]")
	}
}

// media follows keys and the first audio of each answer.
func (r *report) media(ev media.Event) {
	switch ev.Kind {
	case media.Digit:
		r.res.Keys++
	case media.PlayStart:
		t := r.turn()
		if t == nil || !r.waiting {
			return
		}
		r.waiting = false
		t.Latency = ev.At.Sub(r.sentAt)
		r.observe("turn", t.Latency)
		if !r.spoke.IsZero() && r.spoke.Before(r.sentAt) {
			t.Response = ev.At.Sub(r.spoke)
			r.observe("response", t.Response)
		}
		r.spoke = time.Time{}
	case media.DigitEnd, media.SpeechStart, media.SpeechConfirm, media.SpeechEnd, media.PlayEnd, media.Silent, media.Latched, media.DigitsSent, media.Crashed:
	}
}

func (r *report) handedOver(h Handover) { r.res.Handovers = append(r.res.Handovers, h) }

func (r *report) transferred(d machine.TransferDone) {
	if d.Outcome.Success() {
		r.class = ClassTransferred // whoever sends the BYE first
	}
}

func (r *report) packetsIn() uint64 {
	if r.gotMedia == nil {
		return 1
	}
	return r.gotMedia()
}

func (r *report) stats(s media.Stats) { r.res.Media = s }

// result closes the report.
func (c *Call) result() Result {
	r := c.report.res
	r.Info, r.Agent, r.Session = c.conf.Info, c.conf.Agent, c.conf.Session
	r.Ended = time.Now()
	r.Class, r.Why = c.report.class, c.report.why
	if r.Class == "" {
		r.Class = ClassCompleted
		if r.Failures > 0 && len(r.Turns) > 0 && r.Turns[len(r.Turns)-1].Error != "" {
			r.Class = ClassUpstream
		}
	}
	r.Dropped, r.Deaf = c.report.dropped, c.report.recogniserDown
	return r
}
