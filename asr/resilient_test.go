package asr_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/asr"
)

// say lets the caller speak for d in utterance id and returns its final.
func say(f *asr.Feeder, l *line, id uint64, d time.Duration) asr.Event {
	f.Begin(asr.Utterance{ID: id})
	f.Speech(true)
	l.play(d)
	f.Speech(false)
	f.End(id)
	return final(f)
}

func final(f *asr.Feeder) asr.Event {
	for ev := range f.Events() {
		if ev.Kind == asr.Final {
			return ev
		}
	}
	return asr.Event{}
}

// A1: the connection drops in the middle of an utterance.
func TestDroppedConnectionIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", failAt: 4000, delay: 100 * time.Millisecond}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		ev := say(f, l, 1, time.Second)
		require.Equal(t, asr.Event{Utterance: 1, Kind: asr.Final, Text: "a", Latency: 100 * time.Millisecond}, ev)
		require.Equal(t, 2, e.opened)
		require.Equal(t, count(0, 50), frames(t, e.last().heard(1)))
	})
}

func TestReconnectionIsTriedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", failAt: 4000}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		e.set(func() { e.refuse = 2 })
		start := time.Now()
		ev := say(f, l, 1, time.Second)
		require.Equal(t, "a", ev.Text)
		require.Less(t, time.Since(start), 1100*time.Millisecond)
		require.Equal(t, count(0, 50), frames(t, e.last().heard(1)))
	})
}

func TestConnectionLostBetweenEndAndFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", delay: time.Second}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(time.Second)
		f.End(1)
		l.play(100 * time.Millisecond)
		e.last().Close()
		ev := final(f)
		require.Equal(t, "a", ev.Text)
		require.Equal(t, 1100*time.Millisecond, ev.Latency)
		require.Equal(t, count(0, 50), frames(t, e.last().heard(1)), "nothing from behind the end")
	})
}

// A2: the engine takes sound and never answers.
func TestSilentEngineGivesWayToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", silent: true}
		b := &engine{name: "b", delay: 50 * time.Millisecond}
		f, l := open(t, asr.Resilient(a, b))
		defer f.Close()
		ev := say(f, l, 1, time.Second)
		require.Equal(t, "b", ev.Text)
		require.NoError(t, ev.Err)
		require.Equal(t, 2550*time.Millisecond, ev.Latency)
		require.Equal(t, count(0, 50), frames(t, b.last().heard(1)))
	})
}

func TestSilenceOfAllEnginesIsAnEmptyFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", silent: true}
		b := &engine{name: "b", silent: true}
		f, l := open(t, asr.Resilient(a, b))
		defer f.Close()
		ev := say(f, l, 1, time.Second)
		require.Empty(t, ev.Text)
		require.ErrorIs(t, ev.Err, asr.ErrSilent)
		require.Equal(t, 3500*time.Millisecond, ev.Latency)
		select {
		case ev := <-f.Events():
			require.Failf(t, "second final", "%+v", ev)
		case <-time.After(time.Minute):
		}
	})
}

func TestLastPartialServesWhenNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", silent: true}
		f, l := open(t, asr.Resilient(a))
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(time.Second)
		a.last().post(asr.Event{Utterance: 1, Kind: asr.Partial, Text: "large piz"})
		f.End(1)
		ev := final(f)
		require.Equal(t, "large piz", ev.Text)
		require.ErrorIs(t, ev.Err, asr.ErrSilent)
	})
}

func TestLongUtteranceWithoutItsBeginningIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", silent: true}
		b := &engine{name: "b"}
		f, l := open(t, asr.Resilient(a, b))
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		f.Speech(true)
		l.play(4 * time.Second)
		f.End(1)
		l.play(3 * time.Second) // sound goes on while the engine is silent
		require.Equal(t, uint64(1), final(f).Utterance)
		require.Empty(t, b.last().heard(1))
	})
}

func TestNoEngineAtAllNeverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", refuse: 1 << 30}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		ev := say(f, l, 1, 500*time.Millisecond)
		require.Empty(t, ev.Text)
		require.ErrorIs(t, ev.Err, asr.ErrUnavailable)
		l.play(10 * time.Second)
		require.Less(t, e.opened, 10, "the breaker keeps it from being asked again and again")

		e.set(func() { e.refuse = 0 })
		time.Sleep(6 * time.Second)
		ev = say(f, l, 2, 2*time.Second)
		require.Equal(t, "a", ev.Text, "it is used again once it is back")
	})
}

func TestBetterEngineIsTakenBackBetweenUtterances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", refuse: 3}
		b := &engine{name: "b", segmented: true}
		f, l := open(t, asr.Resilient(a, b))
		defer f.Close()
		require.Equal(t, "b", say(f, l, 1, time.Second).Text)
		l.play(time.Second)
		require.Equal(t, "a", say(f, l, 2, time.Second).Text)
		require.Equal(t, count(100, 150), frames(t, a.last().heard(2)))
	})
}

func TestLateFinalKeepsItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", delay: 400 * time.Millisecond}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(200 * time.Millisecond)
		f.End(1)
		f.Begin(asr.Utterance{ID: 2})
		l.play(200 * time.Millisecond)
		f.End(2)
		require.Equal(t, uint64(1), final(f).Utterance)
		require.Equal(t, uint64(2), final(f).Utterance)
	})
}

func TestOlderUtteranceGetsItsFinalWhenTheEngineDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", delay: time.Second}
		f, l := open(t, asr.Resilient(e))
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(200 * time.Millisecond)
		f.End(1)
		f.Begin(asr.Utterance{ID: 2})
		l.play(200 * time.Millisecond)
		e.last().Close()
		l.play(200 * time.Millisecond)
		f.End(2)
		ev := final(f)
		require.Equal(t, uint64(1), ev.Utterance)
		require.Error(t, ev.Err)
		ev = final(f)
		require.Equal(t, uint64(2), ev.Utterance)
		require.Equal(t, "a", ev.Text)
	})
}

func TestBreakerSendsNewCallsToTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &engine{name: "a", refuse: 1 << 30}
		b := &engine{name: "b"}
		r := asr.Resilient(a, b)
		for range 3 {
			f, _ := open(t, r)
			require.NoError(t, f.Close())
		}
		opened := a.opened
		start := time.Now()
		f, l := open(t, r)
		require.Zero(t, time.Since(start))
		require.Equal(t, opened, a.opened)
		require.Equal(t, "b", say(f, l, 1, time.Second).Text)
		require.NoError(t, f.Close())
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", refuse: 1 << 30}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := asr.Resilient(e).Open(ctx, asr.Params{})
		require.Error(t, err)
	})
}
