package vad_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/vad"
)

type event struct {
	change vad.Change
	at     time.Duration // the end of the frame
}

// run feeds frames of 20 ms; the prompt begins with the first one.
func run(d *vad.Detector, rx, tx []int16) []event {
	var out []event
	for at := 0; at+160 <= len(rx); at += 160 {
		var sent []int16
		if at < len(tx) {
			sent = tx[at:min(at+160, len(tx))]
		}
		if c := d.Frame(rx[at:at+160], sent); c != vad.None {
			out = append(out, event{c, time.Duration(at+160) * time.Second / 8000})
		}
	}
	return out
}

func changes(events []event) []vad.Change {
	var out []vad.Change
	for _, e := range events {
		out = append(out, e.change)
	}
	return out
}

func find(events []event, c vad.Change) (time.Duration, bool) {
	i := slices.IndexFunc(events, func(e event) bool { return e.change == c })
	if i < 0 {
		return 0, false
	}
	return events[i].at, true
}

const second = 8000

// Utterances of 1.5 s behind 3 s of what the line sounds like.
func TestDetectorHearsSpeech(t *testing.T) {
	for name, tc := range map[string]struct {
		noise  func(seed uint64, samples int) []int16
		missed int // of 20
		onset  time.Duration
	}{
		"quiet":         {func(_ uint64, n int) []int16 { return make([]int16, n) }, 0, 450 * time.Millisecond},
		"line noise":    {func(s uint64, n int) []int16 { return white(s, n, -65) }, 0, 450 * time.Millisecond},
		"pink at 15 dB": {func(s uint64, n int) []int16 { return pink(s, n, -35) }, 0, 500 * time.Millisecond},
		"white 10 dB":   {func(s uint64, n int) []int16 { return white(s, n, -30) }, 3, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var onsets, ends []time.Duration
			missed := 0
			for seed := range uint64(20) {
				speech := newVoice(seed).say(1.5, -20)
				rx := line(mix(after(3*second, speech, 3*second), tc.noise(seed, 7.5*second)))
				events := run(vad.New(vad.Default()), rx, nil)
				start, ok := find(events, vad.Start)
				if !ok {
					missed++
					continue
				}
				require.GreaterOrEqual(t, start, 3*time.Second, "false start")
				onsets = append(onsets, start-3*time.Second)
				end, ok := find(events, vad.End)
				require.True(t, ok, "seed %d never ends: %v", seed, events)
				ends = append(ends, end-4500*time.Millisecond)
			}
			slices.Sort(onsets)
			slices.Sort(ends)
			t.Logf("missed %d, onset p50 %v p95 %v, end p50 %v p95 %v", missed, onsets[len(onsets)/2], onsets[len(onsets)*95/100], ends[len(ends)/2], ends[len(ends)*95/100])
			require.LessOrEqual(t, missed, tc.missed)
			require.LessOrEqual(t, onsets[len(onsets)*95/100], tc.onset)
			require.LessOrEqual(t, ends[len(ends)*95/100], 700*time.Millisecond)
		})
	}
}

func TestDetectorIgnoresNoise(t *testing.T) {
	for name, noise := range map[string][]int16{
		"silence":       make([]int16, 30*second),
		"white -30":     white(1, 30*second, -30),
		"white -50":     white(2, 30*second, -50),
		"pink -35":      pink(3, 30*second, -35),
		"pink -25":      pink(4, 30*second, -25),
		"noise comes":   append(make([]int16, 10*second), white(5, 20*second, -32)...),
		"noise goes":    append(white(6, 15*second, -32), make([]int16, 15*second)...),
		"a lone click":  after(5*second, slices.Repeat([]int16{20000}, 40), 5*second),
		"one long step": after(5*second, slices.Repeat([]int16{9000}, 5*second), 5*second),
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, run(vad.New(vad.Default()), line(noise), nil))
		})
	}
}

func TestUtteranceHasAnOrder(t *testing.T) {
	rx := after(second, newVoice(9).say(2, -18), 2*second)
	d := vad.New(vad.Default())
	require.Equal(t, []vad.Change{vad.Start, vad.Confirm, vad.End}, changes(run(d, rx, nil)))
	require.False(t, d.Speaking())
}

// Without pauses in between there is one utterance; each of several is reported.
func TestEveryUtteranceIsReported(t *testing.T) {
	d := vad.New(vad.Default())
	starts := 0
	for i := range uint64(10) {
		for _, e := range run(d, after(second, newVoice(3).say(1, -20), second), nil) {
			if e.change == vad.Start {
				starts++
			}
		}
		require.False(t, d.Speaking(), "after %d", i)
	}
	require.Equal(t, 10, starts)
}

func TestBackgroundVoicesAreNotTheCaller(t *testing.T) {
	d := vad.New(vad.Default())
	run(d, after(second, newVoice(1).say(3, -18), second), nil)
	require.Empty(t, run(d, after(0, newVoice(2).say(4, -42), second), nil))
	require.NotEmpty(t, run(d, after(0, newVoice(1).say(2, -18), second), nil))
}

// A quieter caller is heard again some time after a loud noise.
func TestTheLevelGateOpensAgain(t *testing.T) {
	d := vad.New(vad.Default())
	run(d, after(second, newVoice(1).say(3, -8), second), nil)
	run(d, make([]int16, 30*second), nil)
	require.NotEmpty(t, run(d, after(0, newVoice(2).say(3, -30), second), nil))
}

func prompt(seed uint64) []int16 { return newVoice(seed+1000).say(5, -16) }

func TestEchoAloneIsNoBargeIn(t *testing.T) {
	hush := white(1, 5*second, -65)
	for seed := range uint64(20) {
		tx := prompt(seed)
		for _, loss := range []float64{15, 20, 25, 30, 40} {
			rx := line(mix(echoOf(tx, loss), hush))
			d := vad.New(vad.Default())
			d.Prompt()
			_, confirmed := find(run(d, rx, tx), vad.Confirm)
			require.False(t, confirmed, "loss %v dB, prompt %d", loss, seed)
		}
	}
}

func TestCallerIsHeardOverTheEcho(t *testing.T) {
	const calls = 16
	hush := white(2, 5*second, -65)
	var prompts, callers [calls][]int16
	for seed := range uint64(calls) {
		prompts[seed], callers[seed] = prompt(seed), newVoice(seed).say(1.5, -20)
	}
	for loss, least := range map[float64]int{15: calls / 2, 20: calls * 8 / 10, 25: calls, 30: calls, 40: calls, 100: calls} {
		caught := 0
		var delays []time.Duration
		for seed, tx := range prompts {
			begin := 2*second + seed*800
			rx := line(mix(echoOf(tx, loss), after(begin, callers[seed], 0), hush))
			d := vad.New(vad.Default())
			d.Prompt()
			if at, ok := find(run(d, rx, tx), vad.Confirm); ok {
				caught++
				onset := time.Duration(begin) * time.Second / 8000
				require.Greater(t, at, onset)
				delays = append(delays, at-onset)
			}
		}
		slices.Sort(delays)
		t.Logf("loss %v dB: %d of 16, p50 %v, last %v", loss, caught, delays[len(delays)/2], delays[len(delays)-1])
		require.GreaterOrEqual(t, caught, least, "loss %v dB", loss)
	}
}

// Over a call the gate keeps what it learnt: also the first half second of
// later prompts is safe, and a caller who spoke into the lesson is forgiven.
func TestTheGateLearnsOverACall(t *testing.T) {
	d := vad.New(vad.Default())
	for seed := range uint64(8) {
		tx := prompt(seed)
		d.Prompt()
		rx := mix(echoOf(tx, 22), white(seed, len(tx), -65))
		require.Empty(t, run(d, line(rx), tx), "prompt %d", seed)
		require.Empty(t, run(d, make([]int16, second), nil))
	}
	tx := prompt(99)
	d.Prompt()
	rx := mix(echoOf(tx, 22), after(2*second, newVoice(4).say(1.5, -18), 0))
	_, confirmed := find(run(d, line(rx), tx), vad.Confirm)
	require.True(t, confirmed)
}

func TestReplyRightAfterThePromptIsHeard(t *testing.T) {
	d := vad.New(vad.Default())
	tx := prompt(1)
	d.Prompt()
	require.Empty(t, run(d, line(echoOf(tx, 25)), tx))
	at, ok := find(run(d, line(after(second/5, newVoice(2).say(1, -20), second)), nil), vad.Confirm)
	require.True(t, ok)
	require.Less(t, at, time.Second)
}

func TestFramesMayHaveAnyLength(t *testing.T) {
	tx := prompt(3)
	rx := line(mix(echoOf(tx, 25), after(3*second, newVoice(5).say(1, -20), 0)))
	whole := vad.New(vad.Default())
	want := changes(run(whole, rx, tx))
	rapid.Check(t, func(t *rapid.T) {
		d := vad.New(vad.Default())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var got []vad.Change
		for at := 0; at < len(rx); {
			n := min(rng.IntN(200), len(rx)-at)
			if c := d.Frame(rx[at:at+n], tx[at:at+n]); c != vad.None {
				got = append(got, c)
			}
			at += n
		}
		require.Equal(t, want, got)
	})
}

func TestResetForgets(t *testing.T) {
	d := vad.New(vad.Config{})
	rx := after(second, newVoice(9).say(2, -18), 0)
	first := run(d, rx, nil)
	require.True(t, d.Speaking())
	d.Reset()
	require.False(t, d.Speaking())
	require.Equal(t, first, run(d, rx, nil))
}

func TestFrameDoesNotAllocate(t *testing.T) {
	d := vad.New(vad.Default())
	rx, tx := newVoice(1).say(1, -20), prompt(1)
	at := 0
	require.Zero(t, testing.AllocsPerRun(200, func() {
		d.Frame(rx[at:at+160], tx[at:at+160])
		at = (at + 160) % 7840
	}))
}

// What no caller says must not panic either.
func TestDetectorSurvivesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := vad.New(vad.Default())
		for range 30 {
			d.Frame(rapid.SliceOfN(rapid.Int16(), 0, 400).Draw(t, "rx"), rapid.SliceOfN(rapid.Int16(), 0, 400).Draw(t, "tx"))
		}
	})
}

func TestChangesHaveNames(t *testing.T) {
	require.Equal(t, "none start confirm end", vad.None.String()+" "+vad.Start.String()+" "+vad.Confirm.String()+" "+vad.End.String())
}

func BenchmarkFrame(b *testing.B) {
	for name, rx := range map[string][]int16{
		"silence": make([]int16, second),
		"noise":   white(1, second, -40),
		"speech":  newVoice(1).say(1, -20),
		"key":     dtmf.Tone('5', time.Second),
	} {
		b.Run(name, func(b *testing.B) {
			d := vad.New(vad.Default())
			tx := prompt(1)
			at := 0
			for b.Loop() {
				d.Frame(rx[at:at+160], tx[at:at+160])
				at = (at + 160) % 7840
			}
		})
	}
}
