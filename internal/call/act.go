package call

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/media"
)

const (
	closeLimit = 3 * time.Second
	aliveLimit = 5 * time.Second
	// longestWait is what a caller can be kept waiting for a rate limit.
	longestWait = 2 * time.Second
	// settle is what an agent whose connection broke is given to save its state:
	// before, an unchanged state says nothing.
	settle = 2500 * time.Millisecond
	// causeTemporaryFailure is Q.850's word for a fault of ours.
	causeTemporaryFailure = 41
)

// lineDead says that the far end did not answer when asked.
type lineDead struct{ err error }

// recogniserDown says that no recogniser could be opened.
type recogniserDown struct{ err error }

// take turns what arrived into an event of the machine.
func (c *Call) take(ctx context.Context, l letter) {
	switch ev := l.ev.(type) {
	case machine.Event:
		if done, ok := ev.(machine.TransferDone); ok {
			c.report.transferred(done)
			c.conf.Metrics.transfers.WithLabelValues(string(done.Outcome)).Inc()
			if !done.Outcome.Success() && c.line.Context().Err() != nil {
				c.gone(ctx) // nobody is there to take the path of a failure
			}
		}
		c.step(ctx, l.at, ev)
	case Handover:
		c.report.handedOver(ev)
	case media.Event:
		c.heard(ctx, l.at, ev)
	case asr.Event:
		c.recognised(ctx, l.at, ev)
	case *asr.Feeder:
		c.attach(ev)
	case recogniserDown:
		c.report.recogniserDown = true
		c.log.Warn("recogniser not available, keys only", zap.Error(ev.err))
		c.conf.Metrics.recogniserDown.Inc()
	case lineDead:
		c.report.class, c.report.why = ClassMediaTimeout, "no sound came from the caller, and the line did not answer"
		c.log.Info("line is dead", zap.Error(ev.err))
		c.hangup(Hangup{Why: "no media", Cause: 41})
	}
}

// heard follows the line's media.
func (c *Call) heard(ctx context.Context, at time.Time, ev media.Event) {
	c.report.media(ev)
	switch ev.Kind {
	case media.Digit:
		c.conf.Metrics.digits.WithLabelValues(ev.Source.String()).Inc()
		c.step(ctx, at, machine.Key{Digit: ev.Digit, Down: true})
	case media.DigitEnd:
		c.step(ctx, at, machine.KeyUp{Digit: ev.Digit})
	case media.SpeechStart:
		if c.feeder != nil {
			c.feeder.Speech(true)
		}
		c.step(ctx, at, machine.SpeechStarted{})
	case media.SpeechConfirm:
		c.step(ctx, at, machine.SpeechConfirmed{})
	case media.SpeechEnd:
		if c.feeder != nil {
			c.feeder.Speech(false)
		}
		c.report.speechEnded(at)
		c.step(ctx, at, machine.SpeechEnded{})
	case media.PlayStart:
		c.report.saying(c.cues[ev.Seq].item)
		c.step(ctx, at, machine.PlayStarted{Cue: ev.Seq})
	case media.PlayEnd:
		delete(c.cues, ev.Seq)
		bad := ev.Why == media.Starved || ev.Why == media.Failed
		if bad {
			c.log.Warn("prompt not played", zap.Stringer("why", ev.Why), zap.Error(ev.Err))
		}
		c.step(ctx, at, machine.PlayEnded{Cue: ev.Seq, Heard: ev.Heard, Bad: bad, Stopped: ev.Why == media.Stopped})
	case media.DigitsSent:
		c.step(ctx, at, machine.DigitsSent{Seq: ev.Seq})
	case media.Silent:
		c.probe(ctx)
	case media.Crashed:
		c.report.class, c.report.why = ClassServerError, "an internal fault ended the call"
		c.hangup(Hangup{Why: "internal fault", Cause: causeTemporaryFailure})
	case media.Latched:
		c.log.Debug("media latched")
	}
}

// probe asks a far end that has fallen silent whether it is still there: a muted
// caller is not cut off.
func (c *Call) probe(ctx context.Context) {
	if c.report.packetsIn() == 0 {
		c.report.class, c.report.why = ClassMediaTimeout, "no sound ever came from the caller"
		c.hangup(Hangup{Why: "no media", Cause: 41})
		return
	}
	c.do("probe", func() {
		ctx, cancel := context.WithTimeout(ctx, aliveLimit)
		defer cancel()
		if err := c.line.Alive(ctx); err != nil {
			c.in.post(time.Now(), lineDead{err})
		}
	})
}

// act does what the machine decided.
func (c *Call) act(ctx context.Context, e machine.Effect) {
	switch e := e.(type) {
	case machine.SendTurn:
		c.turn(ctx, e)
	case machine.CancelTurn:
		if stop, ok := c.turns[e.Seq]; ok {
			stop()
		}
	case machine.ReadState:
		c.readState(ctx, e)
	case machine.Prepare:
		c.clip(ctx, e.Item)
	case machine.Play:
		c.line.Play(c.cue(ctx, e.Cue, e.Item))
	case machine.Queue:
		c.line.Queue(c.cue(ctx, e.Cue, e.Item))
	case machine.StopPlay:
		c.line.Stop()
	case machine.OpenUtterance:
		c.opened = e
		if c.feeder != nil {
			c.feeder.Begin(asr.Utterance{ID: e.ID, Hints: e.Hints, Language: c.language})
		}
	case machine.CloseUtterance:
		c.opened = machine.OpenUtterance{}
		if c.feeder != nil {
			c.feeder.End(e.ID) // what it brings has no number that anybody waits for
		}
	case machine.EndUtterance:
		c.endUtterance(e)
	case machine.SendDigits:
		c.line.SendDigits(e.Seq, e.Digits)
	case machine.StopDigits:
		c.line.SendDigits(0, "")
	case machine.SetHeader:
		if !mayTravel(e.Name, e.Value) {
			c.log.Warn("header of the flow left out: only X- headers and User-to-User may be set")
			return
		}
		c.headers[e.Name] = e.Value
	case machine.SetVoice:
		c.language, c.voice = or(e.Language, c.language), or(e.Voice, c.voice)
	case machine.Transfer:
		c.transfer(ctx, e)
	case machine.CancelTransfer:
		if stop, ok := c.moves[e.Seq]; ok {
			stop()
		}
	case machine.Hangup:
		if e.Transferred {
			c.report.class = ClassTransferred
		}
		c.hangup(Hangup{Why: e.Why, Cause: e.Cause, HandedOver: e.Transferred})
	case machine.Note:
		c.note(e)
	case machine.Count:
		c.conf.Metrics.count(e.What)
	}
}

// cue makes the sound of an item and remembers what it is.
func (c *Call) cue(ctx context.Context, seq uint64, it machine.Item) media.Cue {
	clip := c.clip(ctx, it)
	c.cues[seq] = cue{item: it, clip: clip}
	return media.Cue{Seq: seq, Clip: clip, Loop: it.Loop}
}

// mayTravel reports whether a flow may set a header of ours: what it says is
// data, and must not become signalling.
func mayTravel(name, value string) bool {
	lower := strings.ToLower(name)
	if !strings.HasPrefix(lower, "x-") && lower != "user-to-user" || len(value) > 256 {
		return false
	}
	token := func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
	return !strings.ContainsFunc(lower, token) && !strings.ContainsFunc(value, unicode.IsControl)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// turn sends an action to the agent and posts what comes back.
func (c *Call) turn(ctx context.Context, e machine.SendTurn) {
	ctx, cancel := context.WithCancel(ctx)
	c.turns[e.Seq] = cancel
	t := dialog.Turn{Action: e.Action, Variables: e.Variables, StopTypes: c.conf.Policy.StopTypes(), TTS: c.conf.InTraces}
	c.report.sent(time.Now(), e.Action)
	c.begun.Add(1)
	planner := planner{ssml: c.conf.Voice.SSML(), inTraces: c.conf.InTraces, noReply: c.conf.Policy.NoReply}
	session := c.session
	c.do("turn", func() {
		defer cancel()
		_, err := session.Interact(ctx, t, func(tr dialog.Trace) error {
			var items []machine.Item
			piece := false
			for _, step := range dialog.Interpret(tr).Split() {
				piece = piece || step.Kind == dialog.KindCompletion || step.Kind == dialog.KindChunk
				items = append(items, planner.plan(step)...)
				if step.Kind == dialog.KindDebug && step.Text != "" {
					c.log.Debug("agent says", zap.String("text", step.Text))
				}
			}
			if piece {
				if len(items) == 0 {
					return nil // tokens come by the hundred, and half a sentence is nobody's
				}
				tr = planner.asMessage(items)
			}
			if !c.in.post(time.Now(), machine.TraceArrived{Turn: e.Seq, Items: items, Trace: tr}) {
				return ErrOverflow
			}
			return nil
		})
		if rest := planner.flush(err == nil); len(rest) > 0 && ctx.Err() == nil {
			c.in.post(time.Now(), machine.TraceArrived{Turn: e.Seq, Items: rest, Trace: planner.asMessage(rest)})
		}
		if err == nil {
			c.in.post(time.Now(), machine.TurnDone{Turn: e.Seq})
			return
		}
		if ctx.Err() != nil {
			return // given up: nobody waits for it
		}
		failed := machine.TurnFailed{Turn: e.Seq, Maybe: true, Reason: err.Error()}
		if te, ok := errors.AsType[*dialog.TurnError](err); ok {
			failed.Maybe = te.Executed == dialog.ExecutedMaybe
			failed.Broken = te.Status == 0
			failed.Refused = te.Status == http.StatusUnauthorized || te.Status == http.StatusForbidden ||
				te.Status == http.StatusTooManyRequests && te.RetryAfter > longestWait
		}
		c.in.post(time.Now(), failed)
	})
}

// readState looks whether a turn of unknown fate has run: a launch that ran has
// left a stack, words that ran are the flow's last utterance.
func (c *Call) readState(ctx context.Context, e machine.ReadState) {
	session := c.session
	action := c.report.action
	c.do("read state", func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		ctx, cancel := context.WithTimeout(ctx, closeLimit)
		defer cancel()
		read := machine.StateRead{Turn: e.Turn}
		if s, err := session.State(ctx); err == nil {
			read.NotExecuted = didNotRun(s, action)
		}
		c.in.post(time.Now(), read)
	})
}

// listen opens the recogniser and passes its events on.
func (c *Call) listen(ctx context.Context) {
	stream, err := c.conf.Recognizer.Open(ctx, asr.Params{CallID: c.conf.Info.ID, Language: c.language})
	if err != nil {
		c.in.post(time.Now(), recogniserDown{err})
		return
	}
	f := asr.NewFeeder(stream, c.log)
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	c.in.post(time.Now(), f)
	for ev := range f.Events() {
		c.in.post(time.Now(), ev)
	}
}

func (c *Call) attach(f *asr.Feeder) {
	c.feeder = f
	c.detach = c.line.Attach(f)
	if c.opened.ID != 0 {
		f.Begin(asr.Utterance{ID: c.opened.ID, Hints: c.opened.Hints, Language: c.language})
	}
}

func (c *Call) endUtterance(e machine.EndUtterance) {
	if c.feeder == nil {
		// Nobody listens: the machine goes on at once.
		c.in.post(time.Now(), machine.Heard{Utterance: e.ID})
		return
	}
	if !c.feeder.OwnsEndpoint() {
		c.feeder.End(e.ID)
	}
}

func (c *Call) recognised(ctx context.Context, at time.Time, ev asr.Event) {
	switch ev.Kind {
	case asr.Partial:
		c.step(ctx, at, machine.Words{Utterance: ev.Utterance, Text: ev.Text})
	case asr.Final:
		c.step(ctx, at, machine.Heard{Utterance: ev.Utterance, Text: ev.Text, Confidence: ev.Confidence})
	case asr.Failed:
		c.report.recogniserDown = true
		c.log.Warn("recogniser failed", zap.Error(ev.Err))
		c.step(ctx, at, machine.Heard{Utterance: ev.Utterance})
	case asr.TurnEnd:
	}
}

// note writes what is worth a line or a place in the record.
func (c *Call) note(n machine.Note) {
	c.report.noted(time.Now(), n)
	switch n.Kind {
	case machine.NoteTurnFailed:
		c.log.Warn("turn failed", zap.String("reason", n.Text))
	case machine.NoteStopOnAction:
		c.log.Warn("action does not stop",
			zap.String("action", n.Text),
			zap.String("do", "Turn on 'Stop on action' for the Custom Action "+n.Text+" in Voiceflow, or its paths can never be taken."))
	case machine.NoteUnhandled:
		c.conf.Metrics.nobodyHandles(n.Text)
		c.log.Info("custom action has no handler", zap.String("action", n.Text))
	case machine.NoteNoHuman:
		c.conf.Metrics.nobodyHandles(n.Text)
		c.log.Warn("agent asks for a human and has no fallback",
			zap.String("do", "Set fallback for the agent to a name of dial.directory or a target, or hand over with the Custom Action dial."))
	case machine.NotePromptBad:
		c.log.Warn("prompt could not be rendered")
	case machine.NoteHold:
		c.log.Info("caller holds")
	case machine.NoteResume:
		c.log.Info("caller resumes")
	case machine.NoteAction, machine.NoteCaller, machine.NoteKeys, machine.NoteBargeIn, machine.NoteNoReply:
	}
}
