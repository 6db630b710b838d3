// Package call runs conversations.
//
// A [Call] owns one caller: its goroutine takes what happens from one inbox,
// lets internal/call/machine decide, and does what was decided. It is the only
// package that knows recognisers, synthesisers, the agent and the line at once,
// and each of them only by its interface.
package call

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/call/story"
	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/internal/target"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// Config is what a call needs besides its line. What is behind the interfaces
// is shared by all calls of the agent.
type Config struct {
	Agent      string
	Info       Info
	Policy     machine.Policy
	Dialog     dialog.Client
	Session    string         // id of the conversation at Voiceflow
	Launch     map[string]any // payload of the launch action
	Variables  map[string]any // given to the flow at launch
	Recognizer asr.Recognizer // nil: keys only
	Voice      *Voice
	Targets    target.Policy
	InTraces   bool // Voiceflow's own voice comes with the traces
	Log        *zap.Logger
	Metrics    *Metrics
	// OnStep is told every step, for live views and tests; nil for none. It is
	// called by the call's goroutine and may not block.
	OnStep func(story.Step)
}

// A Call is one conversation. Only Post, Hold, Type, Drain, ID and Progress may
// be called by other goroutines than Run's.
type Call struct {
	conf    Config
	log     *zap.Logger
	in      *inbox
	begun   atomic.Int64 // turns, for Progress
	heldNow atomic.Bool

	// Owned by Run.
	m        *machine.Machine
	line     Line
	session  dialog.Session
	start    time.Time
	feeder   *asr.Feeder
	detach   func()
	opened   machine.OpenUtterance // asked for before the recogniser was open
	turns    map[uint64]context.CancelFunc
	moves    map[uint64]context.CancelFunc
	cues     map[uint64]cue // given to the line
	headers  map[string]string
	language string
	voice    string
	hungUp   bool
	report   report
	work     sync.WaitGroup
}

// ErrOverflow ends a call whose goroutine fell too far behind its events.
var ErrOverflow = errors.New("call: too many events at once")

// New returns a call that is ready for its line's events.
func New(c Config) *Call {
	return &Call{
		conf: c, log: c.Log, in: newInbox(),
		turns: map[uint64]context.CancelFunc{}, moves: map[uint64]context.CancelFunc{}, cues: map[uint64]cue{}, headers: map[string]string{},
		language: c.Info.Language,
	}
}

// Post takes an event of the line's media. It never blocks; the wheel calls it.
func (c *Call) Post(e media.Event) bool { return c.in.post(e.At, e) }

// Hold tells that the caller holds us, or no longer does. Any goroutine may
// call it.
func (c *Call) Hold(on bool) {
	c.heldNow.Store(on)
	if on {
		c.in.post(time.Now(), machine.Held{})
		return
	}
	c.in.post(time.Now(), machine.Resumed{})
}

// Progress tells how many turns the call has had and whether it is held. Any
// goroutine may call it.
func (c *Call) Progress() (turns int, held bool) { return int(c.begun.Load()), c.heldNow.Load() }

// ID returns the id of the call. Any goroutine may call it.
func (c *Call) ID() string { return c.conf.Info.ID }

// Type takes words that the caller wrote or clicked instead of saying them. Any
// goroutine may call it.
func (c *Call) Type(text string) { c.in.post(time.Now(), machine.Typed{Text: text}) }

// Drain asks for a polite end. Any goroutine may call it.
func (c *Call) Drain(why string) {
	c.in.post(time.Now(), machine.Close{Prompt: machine.PromptLimit, Why: why})
}

// Run answers the line, holds the conversation and returns its record when the
// line is over and every goroutine that the call started has returned. A panic
// ends this call alone.
func (c *Call) Run(ctx context.Context, l Line) (res Result) {
	ctx, cancel := context.WithCancel(ctx)
	c.line, c.start = l, time.Now()
	c.report.begin(c.start)
	c.report.observe = c.conf.Metrics.observe
	c.report.gotMedia = func() uint64 { return l.Stats().Received }
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("call panicked", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			c.report.class, c.report.why = ClassServerError, "an internal fault ended the call"
			c.conf.Metrics.panics.Inc()
			c.hangup(Hangup{Why: "internal fault", Cause: causeTemporaryFailure})
		}
		cancel()
		c.release(context.WithoutCancel(ctx))
		res = c.result()
	}()
	if err := c.begin(ctx); err != nil {
		c.unanswered(err) //nolint:contextcheck // it looks at the line's end
		return res
	}
	c.loop(ctx)
	return res
}

// unanswered ends a call that got no answer and says why: what they offered was
// refused, they gave up meanwhile, or it was our fault.
func (c *Call) unanswered(err error) {
	over := c.line.Context()
	c.hangup(Hangup{Why: "cannot answer", Cause: causeTemporaryFailure})
	c.report.class, c.report.why = ClassClientError, fmt.Sprintf("the call could not be answered: %v", err)
	var refused interface{ SIPStatus() int }
	if errors.As(err, &refused) && refused.SIPStatus()/100 == 4 {
		return
	}
	select {
	case <-over.Done():
	case <-time.After(closeLimit):
	}
	c.report.class = classOf(context.Cause(over))
	if c.report.class == ClassCallerHangup {
		c.report.why = sentence(context.Cause(over))
	}
}

func (c *Call) begin(ctx context.Context) error {
	session, err := c.conf.Dialog.Open(ctx, dialog.Caller{ID: c.conf.Session})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	c.session = session
	c.m = machine.New(c.conf.Policy)
	if c.conf.Recognizer != nil {
		c.do("recogniser", func() { c.listen(ctx) })
	}
	if err := c.line.Answer(ctx); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	c.report.answered(time.Now())
	c.step(ctx, time.Now(), machine.Answered{Launch: c.conf.Launch, Variables: c.conf.Variables})
	return nil
}

// loop is the call's goroutine at work: one event, one decision, its effects.
func (c *Call) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	lineOver := c.line.Context().Done()
	stop := ctx.Done()
	for !c.m.Ended() {
		if at, ok := c.m.Deadline(); ok {
			timer.Reset(time.Until(c.start.Add(at)))
		} else {
			timer.Stop()
		}
		select {
		case <-c.in.bell:
			c.drain(ctx)
		case <-timer.C:
			c.step(ctx, time.Now(), machine.Tick{})
		case <-lineOver:
			lineOver = nil
			c.drain(ctx) // what happened before the end comes before it
			c.gone(ctx)
		case <-stop:
			stop = nil
			c.report.class = ClassServerError
			c.hangup(Hangup{Why: "the bridge is shutting down"})
			c.step(ctx, time.Now(), machine.LineGone{Why: "the bridge was shut down"})
		}
	}
	if c.report.why == "" {
		c.report.why = c.m.Why()
	}
}

func (c *Call) drain(ctx context.Context) {
	for {
		l, ok, overflow := c.in.take()
		if overflow {
			c.log.Error("call ended", zap.Error(ErrOverflow))
			c.report.class, c.report.why = ClassServerError, "the call had too many events at once"
			c.hangup(Hangup{Why: "internal fault", Cause: causeTemporaryFailure})
		}
		if !ok || c.m.Ended() {
			return
		}
		c.take(ctx, l)
	}
}

// gone follows the end of the line.
func (c *Call) gone(ctx context.Context) {
	cause := context.Cause(c.line.Context()) //nolint:contextcheck // of the line's end
	if c.report.class == "" && !c.hungUp {
		c.report.class = classOf(cause)
	}
	c.step(ctx, time.Now(), machine.LineGone{Why: sentence(cause)})
}

// step lets the machine decide and does what it decided.
func (c *Call) step(ctx context.Context, at time.Time, ev machine.Event) {
	since := max(0, at.Sub(c.start))
	effects := c.m.Step(since, ev)
	if c.conf.OnStep != nil {
		c.conf.OnStep(story.Step{At: since, Event: ev, Effects: effects, Waits: c.m.Waits(), Rendered: c.rendered(ev)})
	}
	for _, e := range effects {
		c.act(ctx, e)
	}
}

// A cue is something that the line was given to play.
type cue struct {
	item machine.Item
	clip *pcm.Clip
}

// rendered returns when the sound of a cue that begins was there, since the
// call began.
func (c *Call) rendered(ev machine.Event) time.Duration {
	if p, ok := ev.(machine.PlayStarted); ok {
		if given, ok := c.cues[p.Cue]; ok {
			return max(0, given.clip.Began().Sub(c.start))
		}
	}
	return 0
}

// do runs f beside the loop; Run waits for it. A panic in f ends f alone.
func (c *Call) do(name string, f func()) {
	c.work.Go(func() { _ = guard.Run(c.log, name, f) })
}

func (c *Call) hangup(h Hangup) {
	if c.hungUp {
		return
	}
	c.hungUp = true
	if len(c.headers) > 0 {
		h.Headers = c.headers
	}
	c.line.Hangup(h)
}

// leftovers notes the hand-overs that ended with the call.
func (c *Call) leftovers() {
	for l, ok, _ := c.in.take(); ok; l, ok, _ = c.in.take() {
		if h, is := l.ev.(Handover); is {
			c.report.handedOver(h)
		}
	}
}

// release waits for everything that the call started.
func (c *Call) release(ctx context.Context) {
	c.hangup(Hangup{Why: "the call is over"})
	for _, stop := range c.turns {
		stop()
	}
	for _, stop := range c.moves {
		stop()
	}
	if c.session != nil {
		s := c.session
		c.do("close session", func() {
			ctx, cancel := context.WithTimeout(ctx, closeLimit)
			defer cancel()
			if err := s.Close(ctx, "hangup"); err != nil {
				c.log.Debug("session not closed", zap.Error(err))
			}
		})
	}
	if c.feeder != nil {
		c.detach()
		c.report.dropped = c.feeder.Dropped()
	}
	c.work.Wait() // the recogniser closes with the context
	c.leftovers()
	c.report.stats(c.line.Stats())
}
