// Package asrtest proves that an adapter keeps the contract of asr.Stream. It is
// for tests.
package asrtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ivrbridge/ivrbridge/asr"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// quiet is how long a test waits for what must not come.
const quiet = 150 * time.Millisecond

// Conform runs the conformance suite. Each call of open returns a new stream;
// speech is sound that the engine understands, text what it says.
func Conform(t *testing.T, open func(t *testing.T) asr.Stream, speech []int16, text string) {
	t.Helper()
	say := func(t *testing.T, s asr.Stream) {
		t.Helper()
		for at := 0; at < len(speech); at += 800 {
			require.NoError(t, s.Write(speech[at:min(at+800, len(speech))]))
		}
	}
	tests := map[string]func(t *testing.T, s asr.Stream){
		"each end has one final": func(t *testing.T, s asr.Stream) {
			t.Helper()
			for id := uint64(1); id <= 3; id++ {
				require.NoError(t, s.Begin(asr.Utterance{ID: id, Hints: []string{text}}))
				say(t, s)
				require.NoError(t, s.End(id))
				ev := Final(t, s)
				require.Equal(t, id, ev.Utterance)
				require.Equal(t, text, ev.Text)
				require.NoError(t, ev.Err)
				require.GreaterOrEqual(t, ev.Latency, time.Duration(0))
				require.True(t, ev.Confidence >= 0 && ev.Confidence <= 1)
			}
			Quiet(t, s)
		},
		"finals are numbered when they come late": func(t *testing.T, s asr.Stream) {
			t.Helper()
			for id := uint64(4); id <= 5; id++ {
				require.NoError(t, s.Begin(asr.Utterance{ID: id, Hints: []string{text}}))
				say(t, s)
				require.NoError(t, s.End(id))
			}
			require.ElementsMatch(t, []uint64{4, 5}, []uint64{Final(t, s).Utterance, Final(t, s).Utterance})
			Quiet(t, s)
		},
		"an utterance that is given up has none": func(t *testing.T, s asr.Stream) {
			t.Helper()
			require.NoError(t, s.Begin(asr.Utterance{ID: 1, Hints: []string{text}}))
			say(t, s)
			require.NoError(t, s.Begin(asr.Utterance{ID: 2, Hints: []string{text}}))
			say(t, s)
			require.NoError(t, s.End(1))
			require.NoError(t, s.End(2))
			require.NoError(t, s.End(2))
			ev := Final(t, s)
			require.Equal(t, uint64(2), ev.Utterance)
			require.Equal(t, text, ev.Text)
			require.NoError(t, s.End(2))
			require.NoError(t, s.End(99))
			Quiet(t, s)
		},
		"an utterance without sound ends too": func(t *testing.T, s asr.Stream) {
			t.Helper()
			require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
			require.NoError(t, s.End(1))
			ev := Final(t, s)
			require.Equal(t, uint64(1), ev.Utterance)
			require.Empty(t, ev.Text)
		},
		"close may come at any time": func(t *testing.T, s asr.Stream) {
			t.Helper()
			require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
			say(t, s)
			require.NoError(t, s.End(1))
			require.NoError(t, s.Close())
			_ = s.Begin(asr.Utterance{ID: 2})
			_ = s.Write(make([]int16, 800))
			_ = s.End(2)
		},
		"nothing is open": func(t *testing.T, s asr.Stream) {
			t.Helper()
			require.NoError(t, s.End(1))
			require.NoError(t, s.Write(make([]int16, 160)))
			Quiet(t, s)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			s := open(t)
			test(t, s)
			require.NoError(t, s.Close())
			require.NoError(t, s.Close())
			for range s.Events() { // until it is closed
			}
			goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*Server).Serve"),
				goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
		})
	}
}

// Final waits for the next final of s and fails the test on anything worse.
func Final(t *testing.T, s interface{ Events() <-chan asr.Event }) asr.Event {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case ev, ok := <-s.Events():
			require.True(t, ok, "events ended")
			require.NotEqual(t, asr.Failed, ev.Kind, "%v", ev.Err)
			if ev.Kind == asr.Final {
				return ev
			}
		case <-limit:
			require.FailNow(t, "no final")
		}
	}
}

// Failed waits until s has failed and returns why.
func Failed(t *testing.T, s asr.Stream) error {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case ev, ok := <-s.Events():
			require.True(t, ok, "events ended")
			require.NotEqual(t, asr.Final, ev.Kind)
			if ev.Kind == asr.Failed {
				require.Error(t, ev.Err)
				_, more := <-s.Events()
				require.False(t, more, "nothing follows")
				return ev.Err
			}
		case <-limit:
			require.FailNow(t, "no failure")
		}
	}
}

// Quiet proves that s reports no final.
func Quiet(t *testing.T, s asr.Stream) {
	t.Helper()
	limit := time.After(quiet)
	for {
		select {
		case ev, ok := <-s.Events():
			require.True(t, ok, "events ended")
			require.Equal(t, asr.Partial, ev.Kind, "%+v", ev)
		case <-limit:
			return
		}
	}
}
