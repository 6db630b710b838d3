package machine_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

const tune = "https://cdn.example.com/tune.mp3"

// play is the custom action that begins music, loop the same in a trace.
func play(url string) machine.Item {
	return machine.Item{Kind: machine.Action, Name: "play", Body: map[string]any{"url": url, "loop": true}, Default: -1}
}

func loop(url string) machine.Item { return machine.Item{Kind: machine.Sound, Src: url, Loop: true} }

// playing is what is on the line.
func (d *drive) playing() []string {
	var s []string
	for _, c := range d.cues {
		s = append(s, name(c.it))
	}
	return s
}

func TestMusicIsNotWaitedFor(t *testing.T) {
	for name, items := range map[string][]machine.Item{
		"action behind the prompt": {say("Menu?"), play(tune), noReply(5 * time.Second)},
		"action before it":         {play(tune), say("Menu?"), noReply(5 * time.Second)},
		"trace before it":          {loop(tune), say("Menu?"), noReply(5 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, policy())
			d.answer(items...)
			d.hear()
			require.Equal(t, []string{tune}, d.playing(), "the music begins when everything is said")
			d.begin()
			d.wait(5059 * time.Millisecond)
			require.Len(t, d.sent, 1)
			d.wait(time.Millisecond)
			require.Equal(t, []string{"launch", "no-reply"}, d.types())
			require.Equal(t, []string{tune}, d.playing(), "it goes on while the agent thinks")
			d.wait(3 * time.Second)
			require.NotContains(t, d.said, "<filler>")
			d.answer(say("Still there?"), noReply(5*time.Second))
			require.Equal(t, []string{"Still there?"}, d.playing())
			d.hear()
			require.Empty(t, d.playing(), "the first sound of the next turn has ended it")
		})
	}
}

func TestMusicAlone(t *testing.T) {
	d := start(t, policy())
	d.answer(loop(tune), noReply(5*time.Second))
	d.begin()
	d.wait(5060 * time.Millisecond)
	require.Equal(t, []string{"launch", "no-reply"}, d.types())
	on := d.cues[0].seq
	d.answer(noReply(5 * time.Second)) // a flow that looks whether something has come
	d.wait(5060 * time.Millisecond)
	d.answer(play(tune), noReply(5*time.Second))
	d.wait(5060 * time.Millisecond)
	require.Len(t, d.sent, 4)
	require.Equal(t, on, d.cues[0].seq, "one piece of music without a break")
	d.answer(play(tune+"2"), noReply(5*time.Second))
	require.Equal(t, []string{tune + "2"}, d.playing())
}

func TestWhatIsSaidOverMusicIsAnAnswer(t *testing.T) {
	p := policy()
	p.BargeIn = machine.BargeIn{} // nothing interrupts a prompt
	for _, in := range []struct {
		do   func(d *drive)
		want string
	}{{func(d *drive) { d.speak("billing") }, "text:billing"}, {func(d *drive) { d.keys("12#") }, "text:12"}} {
		d := start(t, p)
		d.answer(say("Menu?"), play(tune))
		d.hear()
		d.begin()
		in.do(d)
		require.Equal(t, []string{"launch", in.want}, d.types())
		require.Equal(t, []string{tune}, d.playing())
	}
}

func TestMusicStandsBackForPromptsOfItsTurn(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), play(tune))
	d.hear()
	d.begin()
	d.wait(10060 * time.Millisecond) // the bridge repeats the prompt
	require.Equal(t, []string{"Menu?"}, d.playing())
	d.hear()
	require.Equal(t, []string{tune}, d.playing())
	d.speak("billing")
	d.do(machine.TurnFailed{Turn: d.turn, Reason: "500"})
	require.Equal(t, []string{"<apology>", "Menu?"}, d.playing())
}

func TestInterruptedPromptHasNoMusicBehindIt(t *testing.T) {
	d := start(t, policy())
	d.answer(loop(tune), say("One."), say("Two."))
	d.begin()
	d.wait(400 * time.Millisecond)
	d.keys("1")
	require.Empty(t, d.playing())
}

func TestMusicCoversASlowTurn(t *testing.T) {
	d := start(t, policy())
	d.do(machine.TraceArrived{Turn: d.turn, Items: []machine.Item{say("Let me look."), play(tune), say("I ask.")}})
	d.hear()
	require.Empty(t, d.playing(), "more may follow at once")
	d.wait(1500 * time.Millisecond)
	require.Equal(t, []string{tune}, d.playing())
	d.begin()
	d.wait(5 * time.Second)
	require.NotContains(t, d.said, "<filler>")
	d.do(machine.TraceArrived{Turn: d.turn, Items: []machine.Item{say("Found.")}})
	require.Equal(t, []string{"Found."}, d.playing())
	d.do(machine.TurnDone{Turn: d.turn})
	d.hear()
	require.Equal(t, []string{tune}, d.playing())
}

func TestEndAndHandoverDoNotWaitForMusic(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Bye."), play(tune), end)
	d.hear()
	require.NotNil(t, d.hung)
	d = start(t, policy())
	d.answer(say("One moment."), play(tune), dial(1, "success", "failed"))
	d.hear()
	require.NotNil(t, d.move)
	require.Equal(t, []string{tune}, d.playing(), "the flow's music instead of ours")
	d.do(machine.Held{})
	d.do(machine.Resumed{})
	require.Equal(t, []string{tune}, d.playing())
	d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.Busy})
	require.Empty(t, d.playing())
}

func TestMusicRestsOnHold(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), play(tune), noReply(5*time.Second))
	d.hear()
	d.begin()
	d.do(machine.Held{})
	require.Empty(t, d.playing())
	d.wait(time.Minute)
	d.do(machine.Resumed{})
	require.Equal(t, []string{tune}, d.playing())
	d.wait(5060 * time.Millisecond)
	require.Equal(t, []string{"launch", "no-reply"}, d.types())
}

func TestMusicThatCannotBeHad(t *testing.T) {
	d := start(t, policy())
	d.answer(loop(tune), noReply(5*time.Second))
	d.wait(4 * time.Second)
	require.Equal(t, []string{tune, "<filler>", tune}, d.said, "its first sample is late")
	d.do(machine.PlayEnded{Cue: d.cues[0].seq})
	d.do(machine.PlayEnded{Cue: d.cues[1].seq, Bad: true})
	require.Equal(t, []string{"<apology>"}, d.playing())
	d.hear()
	d.wait(5059 * time.Millisecond)
	require.Len(t, d.sent, 1, "the caller's time begins behind the apology")
	d.wait(time.Millisecond)
	require.Equal(t, []string{"launch", "no-reply"}, d.types())

	d = start(t, policy())
	d.answer(say("Menu?"), play(tune))
	d.hear()
	d.do(machine.PlayEnded{Cue: d.cues[0].seq, Bad: true})
	require.NotContains(t, d.said, "<apology>", "the caller knows what to do")
	require.Equal(t, 1, d.notes(machine.NotePromptBad))
}

var handoff = machine.Item{Kind: machine.Action, Name: machine.TraceHandoff, Default: -1}

func TestHandoffGoesToTheFallback(t *testing.T) {
	p := policy()
	p.Fallback = "support"
	d := start(t, p)
	d.answer(say("A colleague will take over."), handoff, noReply(5*time.Second))
	require.Nil(t, d.move, "after the speech before it was heard")
	d.hear()
	require.NotNil(t, d.move)
	require.True(t, d.move.Fallback)
	require.Equal(t, "support", d.move.Body["target"])
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "hello"})
	d.keys("1#")
	d.wait(20 * time.Second)
	require.Len(t, d.sent, 1, "nothing is sent while a hand-over runs")
	d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.Connected})
	require.True(t, d.hung.Transferred)
	require.Equal(t, "the caller was handed over", d.m.Why())
}

func TestFailedHandoffLeavesTheCallerInTheConversation(t *testing.T) {
	p := policy()
	p.Fallback = "support"
	d := start(t, p)
	d.answer(say("One moment."), handoff, noReply(5*time.Second))
	for n := range 2 {
		d.hear()
		d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.NoAnswer})
		require.Equal(t, "<transfer_failed>", d.said[len(d.said)-1])
		d.hear()
		require.Nil(t, d.hung)
		d.speak("again")
		require.Len(t, d.sent, n+2)
		require.Equal(t, "text:again", d.types()[n+1])
		require.Equal(t, "no_answer", d.vars[n+1]["transfer_outcome"])
		d.answer(say("I try."), handoff)
	}
}

func TestHandoffWithoutFallbackIsApologisedFor(t *testing.T) {
	for _, c := range []struct{ before, said []string }{
		{[]string{"One moment."}, []string{"One moment.", "<apology>"}},
		{nil, []string{"<apology>"}},
	} {
		d := start(t, policy())
		var items []machine.Item
		for _, s := range c.before {
			items = append(items, say(s))
		}
		d.answer(append(items, handoff, noReply(5*time.Second))...)
		d.hear()
		require.Equal(t, c.said, d.said)
		require.Nil(t, d.move)
		require.Nil(t, d.hung)
		require.Equal(t, 1, d.notes(machine.NoteNoHuman))
		d.wait(5059 * time.Millisecond)
		require.Len(t, d.sent, 1)
		d.speak("then tell me")
		require.Equal(t, []string{"launch", "text:then tell me"}, d.types())
	}
}
