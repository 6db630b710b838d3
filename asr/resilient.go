package asr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/guard"
)

// ErrSilent is why an engine is given up that takes sound and says nothing.
var ErrSilent = errors.New("asr: no final in time")

// ErrUnavailable is why a final is empty when no engine could be asked.
var ErrUnavailable = errors.New("asr: no recogniser available")

// Resilience says how a set of recognisers stands in for one that never fails
// its callers. The zero value of each field takes a default.
type Resilience struct {
	Guard   *guard.Group    // breakers by [Keyed] key; nil: own ones
	Log     *zap.Logger     // nil: none
	Silence time.Duration   // after End before an engine counts as silent: 2.5 s
	Last    time.Duration   // after End before the final is given in any case: 3.5 s
	Dial    time.Duration   // limit of one attempt to open a stream: 2 s
	Retries []time.Duration // pauses before further attempts: 100 ms, 300 ms
}

// Resilient is what Resilience{}.Recognizer returns.
func Resilient(first Recognizer, rest ...Recognizer) Recognizer {
	return Resilience{}.Recognizer(first, rest...)
}

// Recognizer returns a recogniser that uses the first of the given ones that
// works. Its streams outlive their engines: a lost connection is made again and
// the utterance replayed to it by the [Feeder]; an engine that fails or stays
// silent after End is left for the next one; every End is answered by exactly
// one Final, empty and with an error where nothing else was possible. They never
// report Failed. Opening fails only when its context ends.
func (r Resilience) Recognizer(first Recognizer, rest ...Recognizer) Recognizer {
	if r.Log == nil {
		r.Log = zap.NewNop()
	}
	if r.Guard == nil {
		r.Guard = guard.NewGroup(guard.DefaultRules(), r.Log, nil)
	}
	if r.Silence <= 0 {
		r.Silence = 2500 * time.Millisecond
	}
	if r.Last <= 0 {
		r.Last = r.Silence + time.Second
	}
	if r.Dial <= 0 {
		r.Dial = 2 * time.Second
	}
	if r.Retries == nil {
		r.Retries = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond}
	}
	out := &resilient{Resilience: r}
	for i, rec := range append([]Recognizer{first}, rest...) {
		key := fmt.Sprintf("asr %d", i+1)
		if k, ok := rec.(Keyed); ok {
			key = k.Key()
		}
		out.engines = append(out.engines, engine{rec: rec, breaker: r.Guard.Breaker(key)})
	}
	return out
}

type resilient struct {
	Resilience
	engines []engine
}

type engine struct {
	rec     Recognizer
	breaker *guard.Breaker
}

// Open connects to the first engine that works. When none does, the stream is
// open all the same and tries again with each utterance.
func (r *resilient) Open(ctx context.Context, p Params) (Stream, error) {
	s := newResilientStream(r, p)
	select {
	case <-s.settled:
		return s, nil
	case <-ctx.Done():
		_ = s.Close()
		return nil, fmt.Errorf("open recogniser: %w", context.Cause(ctx))
	}
}

// dial opens a stream at one of the engines from..to, in order, skipping those
// that skip names. It returns nil when none could be opened.
func (r *resilient) dial(ctx context.Context, p Params, to int, retries []time.Duration, skip func(int) bool) *attached {
	for i := range to {
		if skip(i) {
			continue
		}
		for try := 0; ; try++ {
			s, err := r.try(ctx, p, r.engines[i])
			if err == nil {
				return &attached{stream: s, engine: i}
			}
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, guard.ErrOpen) {
				break
			}
			r.Log.Warn("recogniser cannot be reached", zap.String("provider", r.engines[i].breaker.Key()),
				zap.Error(err), zap.String("call", p.CallID))
			if permanent(err) {
				r.engines[i].breaker.Trip(err)
				break
			}
			if try == len(retries) {
				break
			}
			select {
			case <-time.After(retries[try]):
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// try opens one stream. That it opened says little about the engine: its
// utterances decide, so success is not counted here.
func (r *resilient) try(ctx context.Context, p Params, e engine) (s Stream, err error) {
	done, err := e.breaker.Allow()
	if err != nil {
		return nil, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, r.Dial)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = &guard.PanicError{Value: v}
		}
		switch {
		case err == nil, ctx.Err() != nil:
			done(context.Canceled)
		default:
			done(fmt.Errorf("open stream: %w", err))
		}
	}()
	s, err = e.rec.Open(dialCtx, p)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		err = errors.New("connection attempt ended")
	}
	return s, err
}

// Close closes those of the recognisers that can be closed.
func (r *resilient) Close() error {
	var errs []error
	for _, e := range r.engines {
		if c, ok := e.rec.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// outcome counts how an utterance went for engine i. A fault that several
// streams met at the same time counts once.
func (r *resilient) outcome(i int, err error) {
	var shared interface{ Counted() bool }
	if errors.As(err, &shared) && shared.Counted() {
		return
	}
	if done, refused := r.engines[i].breaker.Allow(); refused == nil {
		done(err)
	}
}

func permanent(err error) bool {
	var p PermanentError
	return errors.As(err, &p) && p.Permanent()
}
