package asr

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// faultsAllowed is how often one engine may fail one utterance before the
	// next engine gets it.
	faultsAllowed = 2
	// redial is the pause after all engines have been tried in vain.
	redial = time.Second
)

// errEnded is why an engine is left whose events ended without a reason.
var errEnded = errors.New("asr: stream ended")

// A resilientStream is one caller's stream across engines. Its goroutine, run,
// follows the engine's events, connects, and emits; the feeder's goroutine
// passes sound to the engine that is attached.
type resilientStream struct {
	r       *resilient
	p       Params
	ctx     context.Context
	cancel  context.CancelFunc
	out     chan Event
	rewind  chan uint64
	settled chan struct{} // closed when the first connection is made or given up
	dialled chan *attached
	kick    chan struct{}
	done    chan struct{}
	work    sync.WaitGroup

	mu      sync.Mutex
	in      *attached // nil while there is none
	spare   *attached // a better engine, taken into use with the next utterance
	dialing bool
	redial  time.Time // no attempt before it
	cur     *heard
	older   []*heard // ended, their finals still to come from in
	faults  []int    // of cur, by engine
	sticky  attached // the last engine, for its properties while none is attached
}

// attached is an engine's stream in use.
type attached struct {
	stream Stream
	engine int
	utt    uint64 // what it was told to hear
	err    error  // what the feeder's goroutine met
}

// heard is what is known of one utterance.
type heard struct {
	id       uint64
	ended    time.Time // zero until End
	partial  string
	replayed bool // given to a second engine
	finished bool // its Final was emitted
	err      error
}

func newResilientStream(r *resilient, p Params) *resilientStream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &resilientStream{
		r: r, p: p, ctx: ctx, cancel: cancel,
		out: make(chan Event, 16), rewind: make(chan uint64, 1), settled: make(chan struct{}),
		dialled: make(chan *attached, 1), kick: make(chan struct{}, 1), done: make(chan struct{}),
		faults: make([]int, len(r.engines)),
	}
	s.mu.Lock()
	s.connect(len(r.engines), r.Retries)
	s.mu.Unlock()
	go s.run()
	return s
}

func (s *resilientStream) Events() <-chan Event { return s.out }

func (s *resilientStream) rewound() <-chan uint64 { return s.rewind }

// Segmented is that of the engine in use.
func (s *resilientStream) Segmented() bool {
	seg, ok := s.using().(Segmented)
	return ok && seg.Segmented()
}

// OwnsEndpoint is that of the engine in use.
func (s *resilientStream) OwnsEndpoint() bool {
	e, ok := s.using().(Endpointer)
	return ok && e.OwnsEndpoint()
}

func (s *resilientStream) using() Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil {
		return s.in.stream
	}
	return s.sticky.stream
}

func (s *resilientStream) Begin(u Utterance) error {
	s.mu.Lock()
	if s.cur == nil || s.cur.id != u.ID {
		if s.cur != nil && !s.cur.ended.IsZero() && !s.cur.finished {
			s.older = append(s.older, s.cur)
		}
		s.cur = &heard{id: u.ID}
		clear(s.faults)
		if s.spare != nil && len(s.older) == 0 {
			s.discard(s.in)
			s.in, s.sticky, s.spare = s.spare, *s.spare, nil
		}
	}
	in := s.in
	if in != nil {
		in.utt = u.ID
	}
	s.mu.Unlock()
	s.wake()
	if in != nil {
		s.met(in, in.stream.Begin(u))
	}
	return nil
}

func (s *resilientStream) Write(pcm []int16) error {
	s.mu.Lock()
	in := s.ready()
	s.mu.Unlock()
	if in != nil {
		s.met(in, in.stream.Write(pcm))
	}
	return nil
}

func (s *resilientStream) End(id uint64) error {
	s.mu.Lock()
	if s.cur == nil || s.cur.id != id || s.cur.finished {
		s.mu.Unlock()
		return nil
	}
	if s.cur.ended.IsZero() {
		s.cur.ended = time.Now()
	}
	in := s.ready()
	s.mu.Unlock()
	s.wake()
	if in != nil {
		s.met(in, in.stream.End(id))
	}
	return nil
}

// Close ends the engine's stream too and waits for all goroutines.
func (s *resilientStream) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// ready is the engine that hears the current utterance, nil while it has to be
// replayed first. The caller holds mu.
func (s *resilientStream) ready() *attached {
	if s.in == nil || s.cur == nil || s.in.utt != s.cur.id || s.in.err != nil {
		return nil
	}
	return s.in
}

// met notes an error of the feeder's goroutine for run to act on.
func (s *resilientStream) met(in *attached, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	in.err = err
	s.mu.Unlock()
	s.wake()
}

func (s *resilientStream) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// connect opens a stream at one of the first to engines in the background. The
// caller holds mu.
func (s *resilientStream) connect(to int, retries []time.Duration) {
	if s.dialing {
		return
	}
	s.dialing = true
	faults := append([]int(nil), s.faults...)
	s.work.Go(func() {
		in := s.r.dial(s.ctx, s.p, to, retries, func(i int) bool { return faults[i] >= faultsAllowed })
		s.dialled <- in
	})
}

// discard closes an engine's stream without waiting for it.
func (s *resilientStream) discard(in *attached) {
	if in != nil {
		s.work.Go(func() { _ = in.stream.Close() })
	}
}

func (s *resilientStream) run() {
	defer close(s.done)
	defer close(s.out)
	defer s.shut()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		in := s.in
		timer.Reset(s.wait())
		s.mu.Unlock()
		var events <-chan Event
		if in != nil {
			events = in.stream.Events()
		}
		select {
		case <-s.ctx.Done():
			return
		case ev, ok := <-events:
			if !ok {
				ev = Event{Kind: Failed, Err: errEnded}
			}
			s.hear(in, ev)
		case got := <-s.dialled:
			s.connected(got)
		case <-s.kick:
		case <-timer.C:
		}
		s.review()
	}
}

func (s *resilientStream) shut() {
	s.cancel()
	s.mu.Lock()
	s.discard(s.in)
	s.discard(s.spare)
	s.mu.Unlock()
	s.work.Wait()
	select {
	case late := <-s.dialled:
		if late != nil {
			_ = late.stream.Close()
		}
	default:
	}
}

// wait is how long nothing needs to be done unless something happens. The
// caller holds mu.
func (s *resilientStream) wait() time.Duration {
	next := time.Hour
	if s.in == nil && s.cur != nil && !s.cur.finished && !s.dialing && !s.exhausted() {
		next = time.Until(s.redial)
	}
	for _, h := range append(slices.Clone(s.older), s.cur) {
		if h == nil || h.finished || h.ended.IsZero() {
			continue
		}
		next = min(next, time.Until(h.ended.Add(s.patience(h))))
	}
	return max(next, 0)
}

// patience is how long after its End utterance h may wait for the engine in use.
func (s *resilientStream) patience(h *heard) time.Duration {
	if h.replayed || s.in == nil {
		return s.r.Last
	}
	return s.r.Silence
}

func (s *resilientStream) emit(ev Event) {
	select {
	case s.out <- ev:
	case <-s.ctx.Done():
	}
}

// hear handles an event of the engine in use.
func (s *resilientStream) hear(in *attached, ev Event) {
	if ev.Kind == Failed {
		s.mu.Lock()
		if in.err == nil {
			in.err = ev.Err
		}
		s.mu.Unlock()
		return
	}
	h, ok := s.accept(ev)
	if !ok {
		return
	}
	if ev.Kind == Final {
		s.r.outcome(in.engine, nil)
		if ev.Latency == 0 && !h.ended.IsZero() {
			ev.Latency = time.Since(h.ended)
		}
	}
	s.emit(ev)
}

// accept finds the utterance of ev and notes what it says. It is false for what
// must not be passed on.
func (s *resilientStream) accept(ev Event) (heard, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range s.older {
		if h.id == ev.Utterance {
			if ev.Kind == Final {
				s.older = append(s.older[:i], s.older[i+1:]...)
			}
			return *h, true
		}
	}
	h := s.cur
	if h == nil || h.id != ev.Utterance || h.finished {
		return heard{}, false
	}
	switch ev.Kind {
	case Partial:
		h.partial = ev.Text
	case Final:
		h.finished = true
	case TurnEnd, Failed:
	}
	return *h, true
}

// connected takes the result of connect.
func (s *resilientStream) connected(got *attached) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing = false
	select {
	case <-s.settled:
	default:
		close(s.settled)
	}
	switch {
	case got == nil:
		s.redial = time.Now().Add(redial)
	case s.in == nil:
		s.in, s.sticky = got, *got
		if s.cur != nil && !s.cur.finished {
			s.ask(s.cur.id)
		}
	default:
		s.discard(s.spare)
		s.spare = got
	}
}

// ask has the feeder replay utterance id; a request for an older one gives way.
func (s *resilientStream) ask(id uint64) {
	select {
	case <-s.rewind:
	default:
	}
	s.rewind <- id
}

// review acts on what has happened: leaves a broken or silent engine, connects
// where one is needed, and emits the finals that nobody else will.
func (s *resilientStream) review() {
	for _, ev := range s.overdue() {
		s.emit(ev)
	}
}

func (s *resilientStream) overdue() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Event
	now := time.Now()
	late := func(h *heard) bool {
		return h != nil && !h.finished && !h.ended.IsZero() && now.Sub(h.ended) >= s.patience(h)
	}
	if in := s.in; in != nil && in.err == nil && (late(s.cur) || slices.ContainsFunc(s.older, late)) {
		in.err = ErrSilent
	}
	if in := s.in; in != nil && in.err != nil {
		s.leave()
		for _, h := range s.older {
			h.err = in.err
			out = append(out, h.giveUp())
		}
		s.older = nil
	}
	if h := s.cur; h != nil && !h.finished {
		if s.in == nil && !s.dialing && !s.exhausted() && !now.Before(s.redial) {
			s.connect(len(s.r.engines), s.r.Retries)
		}
		if !h.ended.IsZero() && (s.in == nil && !s.dialing || now.Sub(h.ended) >= s.r.Last) {
			out = append(out, h.giveUp())
		}
	}
	if s.idle() {
		s.prefer()
	}
	return out
}

// leave gives up the engine in use. The caller holds mu.
func (s *resilientStream) leave() {
	in := s.in
	s.in = nil
	s.discard(in)
	s.r.outcome(in.engine, in.err)
	s.r.Log.Warn("recogniser failed", zap.String("provider", s.r.engines[in.engine].breaker.Key()),
		zap.Error(in.err), zap.String("call", s.p.CallID))
	s.faults[in.engine]++
	if errors.Is(in.err, ErrSilent) || permanent(in.err) {
		s.faults[in.engine] = faultsAllowed
	}
	if permanent(in.err) {
		s.r.engines[in.engine].breaker.Trip(in.err)
	}
	if s.spare != nil && s.faults[s.spare.engine] < faultsAllowed {
		s.in, s.spare = s.spare, nil
		s.sticky = *s.in
	}
	if h := s.cur; h != nil && !h.finished {
		h.replayed, h.err = !h.ended.IsZero(), in.err
		if s.in != nil {
			s.ask(h.id)
		}
	}
}

// exhausted tells whether every engine has failed the current utterance.
func (s *resilientStream) exhausted() bool {
	for _, n := range s.faults {
		if n < faultsAllowed {
			return false
		}
	}
	return true
}

// idle tells whether no utterance is open or awaited.
func (s *resilientStream) idle() bool {
	return len(s.older) == 0 && (s.cur == nil || s.cur.finished)
}

// prefer looks whether an engine before the one in use is back.
func (s *resilientStream) prefer() {
	if s.in == nil || s.in.engine == 0 || s.dialing || s.spare != nil || s.cur == nil {
		return
	}
	clear(s.faults)
	s.cur = nil
	s.connect(s.in.engine, nil)
}

// giveUp is the final of an utterance that no engine will answer any more: the
// last words that were heard, or nothing.
func (h *heard) giveUp() Event {
	h.finished = true
	err := h.err
	if err == nil {
		err = ErrUnavailable
	}
	return Event{Utterance: h.id, Kind: Final, Text: h.partial, Latency: time.Since(h.ended), Err: err}
}
