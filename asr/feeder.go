package asr

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	chunkTime    = 100 * time.Millisecond
	chunkSamples = pcm.Rate / 10
	leastChunk   = chunkSamples / 2     // less waits for the next tick
	preSpeech    = pcm.Rate / 2         // kept before a talkspurt: 500 ms
	keepSamples  = 5 * pcm.Rate         // what can be replayed after a fault
	openEnd      = int64(math.MaxInt64) // of a span that goes on
	keptSpurts   = 16                   // talkspurts of one utterance that are remembered
)

// A Feeder carries one caller's sound from the media wheel to a [Stream]. It
// keeps the last five seconds in G.711; what the stream does not take in that
// time is dropped, oldest first, and counted.
//
// Frame is called by the wheel. Begin, End and Speech are called by the call's
// loop: they never block and take effect in order, each between the samples
// that came before and after it. One goroutine, which NewFeeder starts and
// Close ends, talks to the stream.
type Feeder struct {
	ring    *ring
	stream  Stream
	log     *zap.Logger
	rewinds <-chan uint64
	dropped atomic.Int64 // samples

	bell  chan struct{}
	stop  chan struct{}
	done  chan struct{}
	close sync.Once

	mu    sync.Mutex
	queue []command

	// Owned by run.
	cur      *span // the open or last utterance
	speaking bool
	speechAt int64
	floor    int64 // audio before it belongs to an earlier utterance
	buf      [chunkSamples]int16
}

// A rewinder is a stream that has lost what was written to it and asks to be
// given the utterance of that number again, from Begin to End.
type rewinder interface{ rewound() <-chan uint64 }

type command struct {
	at  int64
	do  verb
	utt Utterance
}

type verb uint8

const (
	doBegin verb = iota
	doEnd
	doSpeech
	doSilence
)

// A span is what of the ring belongs to one utterance.
type span struct {
	utt       Utterance
	segmented bool
	from, to  int64     // to is openEnd until End
	voiced    int64     // where its first speech begins, -1 before any
	talk      []stretch // talkspurts, the oldest first
	next      int64     // the first sample not yet written
	failed    bool      // the stream takes no more of it
}

type stretch struct{ from, to int64 }

// NewFeeder starts feeding s, which it owns from now on.
func NewFeeder(s Stream, log *zap.Logger) *Feeder {
	f := &Feeder{
		ring: newRing(keepSamples), stream: s, log: log,
		bell: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if r, ok := s.(rewinder); ok {
		f.rewinds = r.rewound()
	}
	go f.run()
	return f
}

// Frame implements the tap of a media leg. It neither waits nor allocates; what
// the caller hears (tx) does not matter here.
func (f *Feeder) Frame(_ int64, rx, _ []int16) { f.ring.write(rx) }

// Begin opens utterance u at the sample that came last. When the caller has
// begun to speak already, the utterance begins with that speech, as far as no
// earlier utterance has had it.
func (f *Feeder) Begin(u Utterance) { f.post(command{do: doBegin, utt: u}) }

// End ends utterance id behind the sample that came last: its final follows.
func (f *Feeder) End(id uint64) { f.post(command{do: doEnd, utt: Utterance{ID: id}}) }

// Speech tells that a talkspurt began or ended, as the detector saw it.
func (f *Feeder) Speech(on bool) {
	if on {
		f.post(command{do: doSpeech})
	} else {
		f.post(command{do: doSilence})
	}
}

// Events are the stream's. The channel is closed when the stream has ended.
func (f *Feeder) Events() <-chan Event { return f.stream.Events() }

// OwnsEndpoint tells whether the engine in use decides when the caller's turn
// is over.
func (f *Feeder) OwnsEndpoint() bool {
	e, ok := f.stream.(Endpointer)
	return ok && e.OwnsEndpoint()
}

// Dropped tells how much sound the stream was too slow to take.
func (f *Feeder) Dropped() time.Duration {
	return time.Duration(f.dropped.Load()) * time.Second / pcm.Rate
}

// Close ends the stream and waits for the feeder's goroutine. It is idempotent
// and safe to call from any goroutine.
func (f *Feeder) Close() error {
	f.close.Do(func() { close(f.stop) })
	err := f.stream.Close()
	<-f.done
	return err
}

func (f *Feeder) post(c command) {
	f.mu.Lock()
	c.at = f.ring.head.Load()
	f.queue = append(f.queue, c)
	f.mu.Unlock()
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

func (f *Feeder) run() {
	defer close(f.done)
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("feeder panicked", zap.Any("panic", p), zap.Stack("stack"))
			_ = f.stream.Close()
		}
	}()
	tick := time.NewTimer(chunkTime)
	defer tick.Stop()
	for {
		var due <-chan time.Time
		if f.writing() {
			tick.Reset(chunkTime)
			due = tick.C
		}
		select {
		case <-f.stop:
			return
		case <-f.bell:
			f.obey()
		case id := <-f.rewinds:
			f.rewind(id)
		case <-due:
			f.pump(f.ring.head.Load(), leastChunk)
		}
	}
}

// writing tells whether samples that come in are for the stream.
func (f *Feeder) writing() bool {
	if f.cur == nil || f.cur.failed || f.cur.to != openEnd {
		return false
	}
	return !f.cur.segmented || len(f.cur.talk) > 0 && f.cur.talk[len(f.cur.talk)-1].to == openEnd
}

func (f *Feeder) obey() {
	f.mu.Lock()
	todo := f.queue
	f.queue = nil
	f.mu.Unlock()
	for _, c := range todo {
		f.pump(c.at, 1)
		switch c.do {
		case doBegin:
			f.begin(c.utt, c.at)
		case doEnd:
			f.end(c.utt.ID, c.at)
		case doSpeech:
			f.speech(c.at)
		case doSilence:
			f.silence(c.at)
		}
	}
	if f.writing() {
		f.pump(f.ring.head.Load(), leastChunk)
	}
}

func (f *Feeder) begin(u Utterance, at int64) {
	from := at
	if f.speaking {
		from = max(f.floor, f.speechAt-preSpeech)
	}
	f.cur = &span{utt: u, from: from, to: openEnd, voiced: -1, next: from}
	if f.speaking {
		f.cur.voiced = from
		f.cur.talk = []stretch{{from, openEnd}}
	}
	f.floor = from
	f.start()
}

// start tells the stream of the current utterance.
func (f *Feeder) start() {
	s, ok := f.stream.(Segmented)
	f.cur.segmented = ok && s.Segmented()
	f.cur.failed = false
	f.check("begin utterance", f.stream.Begin(f.cur.utt))
}

func (f *Feeder) end(id uint64, at int64) {
	if f.cur == nil || f.cur.utt.ID != id || f.cur.to != openEnd {
		return
	}
	f.cur.to = at
	f.floor = at
	f.check("end utterance", f.stream.End(id))
}

func (f *Feeder) speech(at int64) {
	if f.speaking {
		return
	}
	f.speaking, f.speechAt = true, at
	u := f.cur
	if u == nil || u.to != openEnd {
		return
	}
	from := max(f.floor, at-preSpeech)
	if n := len(u.talk); n > 0 {
		from = max(from, u.talk[n-1].to)
	}
	if u.voiced < 0 {
		u.voiced = from
	}
	if len(u.talk) == keptSpurts {
		u.talk = append(u.talk[:0], u.talk[1:]...)
	}
	u.talk = append(u.talk, stretch{from, openEnd})
}

func (f *Feeder) silence(at int64) {
	f.speaking = false
	if u := f.cur; u != nil && len(u.talk) > 0 {
		last := &u.talk[len(u.talk)-1]
		last.to = min(last.to, at)
	}
}

// rewind gives the stream utterance id again, from its first speech on. Where
// that has left the ring, an utterance that goes on is cut short in front; one
// that has ended is given without its sound, because half a sentence may say
// the opposite of the whole.
func (f *Feeder) rewind(id uint64) {
	u := f.cur
	if u == nil || u.utt.ID != id {
		return
	}
	f.start()
	ended := u.to != openEnd
	u.next = u.from
	if u.voiced >= 0 {
		u.next = u.voiced
	}
	oldest := f.ring.oldest()
	lost := u.next < oldest
	u.next = max(u.next, oldest)
	if ended && lost {
		f.dropped.Add(u.to - u.next)
		u.next = u.to
	}
	f.pump(f.ring.head.Load(), 1)
	if ended {
		f.check("end utterance", f.stream.End(id))
	}
}

// pump writes the current utterance's samples up to position limit, unless
// fewer than least are there.
func (f *Feeder) pump(limit int64, least int) {
	u := f.cur
	for u != nil && !u.failed {
		from, to := u.pending(min(limit, u.to))
		if n := to - from; n <= 0 || n < int64(least) {
			return
		}
		select {
		case <-f.stop:
			return
		default:
		}
		start, n := f.ring.read(from, f.buf[:min(to-from, chunkSamples)])
		n = int(min(int64(n), to-start))
		if start > from {
			f.dropped.Add(min(start, to) - from)
		}
		if n <= 0 {
			u.next = max(start, from)
			if start < to {
				return
			}
			u.next = to
			continue
		}
		u.next = start + int64(n)
		f.check("write sound", f.stream.Write(f.buf[:n]))
	}
}

// pending is the next stretch that the stream is to have, below limit.
func (u *span) pending(limit int64) (from, to int64) {
	if !u.segmented {
		return u.next, limit
	}
	for _, s := range u.talk {
		if s.to > u.next && s.from < limit {
			return max(u.next, s.from), min(limit, s.to)
		}
	}
	return limit, limit
}

func (f *Feeder) check(what string, err error) {
	if err == nil {
		return
	}
	f.cur.failed = true
	f.log.Debug("recogniser refused", zap.String("attempt", what), zap.Error(err),
		zap.Uint64("utterance", f.cur.utt.ID))
}
