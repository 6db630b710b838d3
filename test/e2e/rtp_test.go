package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// up places a call by hand; end hangs up.
func (w *wire) up(call string, e *earpiece) (end func()) {
	w.t.Helper()
	w.invite(call, call, e)
	answer := w.final(call, "INVITE")
	require.Equal(w.t, "200", status(answer))
	w.send(request{method: "ACK", call: call, branch: call + "k", toTag: tag(answer), cseq: 1})
	return func() {
		w.send(request{method: "BYE", call: call, branch: call + "y", toTag: tag(answer), cseq: 9})
		require.Equal(w.t, "200", status(w.final(call+"y", "BYE")))
	}
}

// hush waits until a prompt was heard and is over.
func (e *earpiece) hush(t *testing.T, within time.Duration) {
	t.Helper()
	await(t, within, "prompt and its end", func() bool {
		all := e.packets()
		i := slices.IndexFunc(all, func(p packet) bool { return p.level() > -45 })
		return i >= 0 && len(all)-i > 75 && loud(all[len(all)-75:]) == 0
	})
}

// A peer that sends from another port than it receives at is heard, and hears
// us: at the port that it named until it has sent from the other one.
func TestAsymmetricRTP(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	e := newEarpiece(t, true)
	e.say(func(time.Time) []byte { return nil })
	end := w.up("asymmetric", e)
	e.hush(t, 20*time.Second)
	for _, p := range e.packets() {
		require.True(t, p.told)
	}
	e.say(func(time.Time) []byte { return slices.Repeat([]byte{pcm.Mu.Silence()}, frame) })
	await(t, 10*time.Second, "latched", func() bool { return len(b.log.find("media latched")) > 0 })
	e.press(t, "2")
	pressed := a.await(t, 10*time.Second, "intent")
	require.Contains(t, pressed.payload, "hours_intent")
	// Where it said that it receives is where the answer goes; the port that it
	// sends from gets the same, as a NAT could be behind it.
	told := func() (out []packet) {
		for _, p := range e.packets() {
			if p.told {
				out = append(out, p)
			}
		}
		return out
	}
	heard := len(told())
	await(t, 10*time.Second, "answer", func() bool { return loud(told()[heard:]) > 20 })
	end()
	requireOneStream(t, told())
	require.Positive(t, b.records(1)[0].Media.Received)
}

// echo sends back what was heard, quieter and later, as a telephone's
// loudspeaker and microphone do.
func (e *earpiece) echo(loss float64, delay time.Duration) {
	factor := 1.0
	for range int(loss) {
		factor *= 0.8912509 // 1 dB
	}
	next := 0
	silence := slices.Repeat([]byte{pcm.Mu.Silence()}, frame)
	e.say(func(now time.Time) []byte {
		e.mu.Lock()
		defer e.mu.Unlock()
		for next+1 < len(e.heard) && now.Sub(e.heard[next+1].at) >= delay {
			next++ // a slot was missed
		}
		if next >= len(e.heard) || now.Sub(e.heard[next].at) < delay || len(e.heard[next].audio) != frame {
			return silence
		}
		sound := make([]int16, frame)
		pcm.Mu.Decode(sound, e.heard[next].audio)
		next++
		for i := range sound {
			sound[i] = int16(float64(sound[i]) * factor)
		}
		out := make([]byte, frame)
		pcm.Mu.Encode(out, sound)
		return out
	})
}

// The echo of a prompt is not speech: the prompt plays to its end, as without
// echo, and the agent is told nothing. It runs alone: a peer that is late on a
// busy machine makes an echo that no room has.
func TestEchoIsNoBargeIn(t *testing.T) {
	needRecogniser(t)
	welcome := strings.Repeat("Welcome to our little shop, which has been in this town for many years. ", 2)
	a := newAgent(t, strings.Replace(menu, "Welcome.", welcome, 1))
	b := serve(t, settings{agent: a, conf: listening})
	w := b.wire(t)

	plain := newEarpiece(t, false)
	end := w.up("plain", plain)
	plain.hush(t, 60*time.Second)
	end()

	echo := newEarpiece(t, false)
	echo.echo(20, 150*time.Millisecond)
	end = w.up("echo", echo)
	echo.hush(t, 60*time.Second)
	want, got := loud(plain.packets()), loud(echo.packets())
	require.Greater(t, want, 200, "several seconds of prompt")
	require.InEpsilon(t, want, got, 0.05, "the prompt plays once, to its end")
	require.Zero(t, b.metric("ivrbridge_conversation_events_total", `kind="barge_in"`))
	require.Zero(t, b.metric("ivrbridge_conversation_events_total", `kind="false_barge_in"`))
	end()
	require.Equal(t, []string{"launch", "launch"}, a.actions())
}

// Every packet of a call goes out in its slot: 50 a second, whoever else talks.
func TestPacingOfCalls(t *testing.T) {
	t.Parallel()
	a := newAgent(t, long())
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	var ends []func()
	var ears []*earpiece
	for i := range 5 {
		e := newEarpiece(t, false)
		ears = append(ears, e)
		ends = append(ends, w.up("paced-"+string(rune('a'+i)), e))
	}
	await(t, 30*time.Second, "ten seconds of sound", func() bool { return len(ears[4].packets()) > 500 })
	for i, e := range ears {
		ends[i]()
		all := e.packets()
		requireOneStream(t, all)
		took := all[len(all)-1].at.Sub(all[0].at)
		sound := time.Duration(all[len(all)-1].ts-all[0].ts) * time.Second / pcm.Rate
		require.InDelta(t, took.Seconds(), sound.Seconds(), 0.5, "timestamps follow the clock")
	}
}

// The bridge's own order of codecs decides nothing: what it does not take is
// left out.
func TestOneCodecOnly(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a, codecs: "[PCMA]"})
	e := b.sipp(t, "basic_a_law")
	for _, p := range e.packets() {
		require.EqualValues(t, 8, p.payload)
	}
}

// A caller from whom no sound ever comes is hung up on; one who falls silent is
// asked first, and stays if he answers.
func TestCallerWithoutSound(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	mute := func(time.Time) []byte { return nil }

	never, w := newEarpiece(t, false), b.wire(t)
	never.say(mute)
	w.up("never", never)
	vanished, v := newEarpiece(t, false), b.wire(t)
	v.up("vanished", vanished)
	quiet, q := newEarpiece(t, false), b.wire(t)
	end := q.up("quiet", quiet)
	for _, e := range []*earpiece{vanished, quiet} {
		e.hush(t, 20*time.Second)
		e.say(mute)
	}
	q.answer(q.asked(40*time.Second, "OPTIONS"), "200 OK")
	v.answer(v.asked(60*time.Second, "BYE"), "200 OK")
	require.NotEmpty(t, v.asked(time.Second, "OPTIONS"), "asked before")
	end()
	w.answer(w.asked(60*time.Second, "BYE"), "200 OK")
	for _, r := range b.records(3) {
		want := record.MediaTimeout
		if r.SIPCallID == "quiet" {
			want = record.CallerHangup
		}
		require.Equal(t, want, r.Class, "%s: %s", r.SIPCallID, r.Why)
	}
}
