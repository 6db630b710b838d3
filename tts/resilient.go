package tts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/guard"
)

// ErrSlow is why an engine is passed over whose first sample does not come.
var ErrSlow = errors.New("tts: no sound in time")

// ErrSilent is why an engine is passed over that ends without a sample.
var ErrSilent = errors.New("tts: no sound")

// Resilience says how a set of synthesisers stands in for one that never fails
// its callers. The zero value of each field takes a default.
type Resilience struct {
	Guard *guard.Group  // breakers by Key; nil: own ones
	Log   *zap.Logger   // nil: none
	First time.Duration // limit for the first sample while another engine is left: 1.5 s
	Last  time.Duration // limit for the last engine's first sample: 10 s
}

// Resilient is what Resilience{}.Synthesizer returns.
func Resilient(first Synthesizer, rest ...Synthesizer) Synthesizer {
	return Resilience{}.Synthesizer(first, rest...)
}

// Synthesizer returns a synthesiser that asks the given ones in order: the next
// where one fails, is out of use, or has not delivered a sample in time. What
// fails after its first sample ends there.
//
// A request for SSML that an engine does not read reaches it as plain text, and
// a voice reaches only the first engine: others have other names for theirs.
func (r Resilience) Synthesizer(first Synthesizer, rest ...Synthesizer) Synthesizer {
	if r.Log == nil {
		r.Log = zap.NewNop()
	}
	if r.Guard == nil {
		r.Guard = guard.NewGroup(guard.DefaultRules(), r.Log, nil)
	}
	if r.First <= 0 {
		r.First = 1500 * time.Millisecond
	}
	if r.Last <= 0 {
		r.Last = defaultStall
	}
	return &resilient{Resilience: r, engines: append([]Synthesizer{first}, rest...)}
}

type resilient struct {
	Resilience
	engines []Synthesizer
}

// Key implements Synthesizer.
func (r *resilient) Key() string {
	keys := make([]string, 0, len(r.engines))
	for _, e := range r.engines {
		keys = append(keys, e.Key())
	}
	return strings.Join(keys, " or ")
}

// SSML implements Synthesizer: that of the first engine.
func (r *resilient) SSML() bool { return r.engines[0].SSML() }

// InTraces is that of the first engine.
func (r *resilient) InTraces() bool { return InTraces(r.engines[0]) }

// Synthesize implements Synthesizer.
func (r *resilient) Synthesize(ctx context.Context, req Request) (Audio, error) {
	var errs []error
	for i, e := range r.engines {
		limit := r.First
		if i == len(r.engines)-1 {
			limit = r.Last
		}
		own := req
		if req.SSML && !e.SSML() {
			own.SSML, own.Text = false, plain(req.Text)
		}
		if i > 0 {
			own.Voice = ""
		}
		var audio Audio
		err := r.Guard.Breaker(e.Key()).Do(func() (err error) {
			audio, err = begin(ctx, e, own, limit)
			return err
		})
		if err == nil {
			if i > 0 {
				return substitute{audio}, nil
			}
			return audio, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("synthesize: %w", context.Cause(ctx))
		}
		if !errors.Is(err, guard.ErrOpen) {
			r.Log.Warn("synthesiser failed", zap.String("provider", e.Key()), zap.Error(err))
		}
		var p interface{ Permanent() bool }
		if errors.As(err, &p) && p.Permanent() {
			r.Guard.Breaker(e.Key()).Trip(err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.Key(), err))
	}
	return nil, fmt.Errorf("synthesize: %w", errors.Join(errs...))
}

// substitute is the sound of another engine than the first. It is not kept, so
// that callers hear the first again when it is back.
type substitute struct{ Audio }

// begin starts s and waits up to limit for its first samples. An engine that
// does not obey its context is left behind.
func begin(ctx context.Context, s Synthesizer, r Request, limit time.Duration) (Audio, error) {
	own, cancel := context.WithCancelCause(ctx)
	slow := time.AfterFunc(limit, func() { cancel(ErrSlow) })
	defer slow.Stop()
	got := make(chan *begun, 1)
	go func() {
		b := &begun{cancel: cancel}
		defer func() {
			if v := recover(); v != nil {
				b.failed = &guard.PanicError{Value: v}
			}
			got <- b
		}()
		b.open(own, s, r)
	}()
	select {
	case b := <-got:
		if b.failed != nil {
			cancel(nil)
			if cause := context.Cause(own); errors.Is(cause, ErrSlow) {
				return nil, cause
			}
			return nil, b.failed
		}
		if !slow.Stop() {
			cancel(nil)
			return nil, errors.Join(ErrSlow, b.Close())
		}
		return b, nil
	case <-own.Done():
		go func() {
			if b := <-got; b.failed == nil {
				_ = b.Close()
			}
		}()
		return nil, context.Cause(own)
	}
}

// begun is sound whose first samples have been read already.
type begun struct {
	Audio
	cancel context.CancelCauseFunc
	close  sync.Once
	buf    [160]int16
	head   []int16
	err    error // of the first read, to be returned after head
	failed error
}

func (b *begun) open(ctx context.Context, s Synthesizer, r Request) {
	audio, err := s.Synthesize(ctx, r)
	if err != nil {
		b.failed = err
		return
	}
	b.Audio = audio
	for len(b.head) == 0 && b.err == nil {
		var n int
		n, b.err = audio.Read(b.buf[:])
		b.head = b.buf[:n]
	}
	if len(b.head) > 0 || errors.Is(b.err, io.EOF) && !speakable(r.Text) {
		return
	}
	b.failed = b.err
	if errors.Is(b.err, io.EOF) {
		b.failed = ErrSilent
	}
	_ = audio.Close()
}

func (b *begun) Read(p []int16) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.Audio.Read(p)
}

func (b *begun) Close() (err error) {
	b.close.Do(func() {
		b.cancel(nil)
		err = b.Audio.Close()
	})
	return err
}

// plain drops the markup of an SSML text.
func plain(ssml string) string {
	var out strings.Builder
	depth := 0
	for _, r := range ssml {
		switch {
		case r == '<':
			depth++
			out.WriteByte(' ')
		case r == '>' && depth > 0:
			depth--
		case depth == 0:
			out.WriteRune(r)
		}
	}
	text := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'", "&amp;", "&").Replace(out.String())
	return strings.Join(strings.Fields(text), " ")
}
