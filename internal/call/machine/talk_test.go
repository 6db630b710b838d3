package machine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

func (d *drive) notes(k machine.NoteKind) int {
	n := 0
	for _, e := range d.all {
		if note, ok := e.(machine.Note); ok && note.Kind == k {
			n++
		}
	}
	return n
}

func TestBargeInPausesAndWordsConfirm(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), say("Two."), say("Three."), noReply(5*time.Second))
	d.begin()
	d.wait(400 * time.Millisecond)
	d.do(machine.SpeechStarted{})
	d.wait(80 * time.Millisecond)
	d.do(machine.SpeechConfirmed{})
	require.Empty(t, d.cues, "the prompt pauses")
	d.wait(time.Second)
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "agent"})
	require.Equal(t, []string{"launch", "text:agent"}, d.types())
	require.Equal(t, "One.", d.vars[1]["heard_until"])
}

func TestPartialWordsConfirmBargeIn(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), say("Two."), noReply(5*time.Second))
	d.begin()
	d.wait(400 * time.Millisecond)
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.do(machine.Words{Utterance: d.utt, Text: "I"})
	d.wait(5 * time.Second)
	require.Equal(t, []string{"One.", "Two."}, d.said, "nothing resumes after a word")
	d.do(machine.SpeechEnded{})
	d.wait(2 * time.Second)
	require.Equal(t, "text:I", d.types()[1], "the last partial serves when no final comes")
}

func TestFalseBargeInResumesTheSentenceTwice(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), say("Two."), noReply(50*time.Second))
	d.begin()
	d.wait(400 * time.Millisecond)
	for range 3 {
		d.do(machine.SpeechStarted{})
		d.do(machine.SpeechConfirmed{})
		d.wait(time.Second)
		d.do(machine.SpeechEnded{})
		d.do(machine.Heard{Utterance: d.utt})
		d.wait(1499 * time.Millisecond)
		n := len(d.said)
		d.wait(time.Millisecond)
		if len(d.said) > n {
			require.Equal(t, "One.", d.said[n])
			d.begin()
		}
	}
	require.Equal(t, []string{"One.", "Two.", "One.", "Two.", "One.", "Two."}, d.said)
	require.NotEmpty(t, d.cues, "the third noise is not believed")
}

func TestPromptIsProtectedAtFirst(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), noReply(5*time.Second))
	d.begin()
	d.do(machine.SpeechStarted{})
	d.wait(100 * time.Millisecond)
	d.do(machine.SpeechConfirmed{})
	d.wait(199 * time.Millisecond)
	require.NotEmpty(t, d.cues)
	d.wait(time.Millisecond)
	require.Empty(t, d.cues, "speech that goes on interrupts after the protection")
}

func TestBargeInModes(t *testing.T) {
	for _, c := range []struct {
		name    string
		speech  bool
		keys    bool
		stopped []bool
	}{{"both", true, true, []bool{true, true}}, {"speech", true, false, []bool{true, false}}, {"dtmf", false, true, []bool{false, true}}, {"off", false, false, []bool{false, false}}} {
		t.Run(c.name, func(t *testing.T) {
			for i, in := range []func(d *drive){
				func(d *drive) { d.do(machine.SpeechStarted{}); d.do(machine.SpeechConfirmed{}) },
				func(d *drive) { d.keys("9") },
			} {
				p := policy()
				p.BargeIn.Speech, p.BargeIn.Keys = c.speech, c.keys
				d := start(t, p)
				d.answer(say("One."), noReply(5*time.Second))
				d.begin()
				d.wait(400 * time.Millisecond)
				in(d)
				require.Equal(t, c.stopped[i], len(d.cues) == 0)
			}
		})
	}
}

func TestInterruptionActionForbidsBargeIn(t *testing.T) {
	d := start(t, policy())
	d.answer(machine.Item{Kind: machine.Action, Name: "interruption", Body: map[string]any{"allowInterrupts": false}, Default: -1}, say("Listen."), noReply(5*time.Second))
	d.begin()
	d.wait(400 * time.Millisecond)
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.keys("1")
	require.NotEmpty(t, d.cues)
}

func TestTurnThatDoesNotListenIsNotInterrupted(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Good-bye."), end)
	d.begin()
	d.wait(400 * time.Millisecond)
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "wait"})
	d.keys("1#")
	require.NotEmpty(t, d.cues)
	require.Nil(t, d.hung)
	d.hear()
	require.NotNil(t, d.hung, "end is obeyed after what precedes it was heard")
	require.Len(t, d.sent, 1)
}

func TestSlowTurnIsCovered(t *testing.T) {
	d := start(t, policy())
	d.wait(1499 * time.Millisecond)
	require.Empty(t, d.said)
	d.wait(time.Millisecond)
	require.Equal(t, []string{"<filler>"}, d.said)
	d.hear()
	d.wait(3 * time.Second)
	require.Equal(t, []string{"<filler>", "<filler>"}, d.said)
	d.answer(say("Here I am."))
	require.Equal(t, "Here I am.", d.said[2])
}

func TestTurnTimeoutApologisesAndFallsBack(t *testing.T) {
	p := policy()
	p.Fallback = "support"
	d := start(t, p)
	d.answer(say("Menu?"))
	d.hear()
	d.speak("hello")
	d.wait(17 * time.Second)
	d.hear()
	require.Contains(t, d.said, "<apology>")
	require.NotNil(t, d.move)
	require.True(t, d.move.Fallback)
}

func TestFailedTurnAsksOnceThenEnds(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), noReply(5*time.Second))
	d.hear()
	d.speak("hello")
	d.do(machine.TurnFailed{Turn: d.turn, Reason: "500"})
	d.hear()
	require.Equal(t, []string{"Menu?", "<apology>", "Menu?"}, d.said)
	require.Nil(t, d.hung)
	d.speak("hello")
	d.do(machine.TurnFailed{Turn: d.turn, Reason: "500"})
	d.hear()
	require.NotNil(t, d.hung)
	require.Len(t, d.sent, 3)
}

func TestTurnOfUnknownFateIsRepeatedOnlyIfItDidNotRun(t *testing.T) {
	for _, ran := range []bool{true, false} {
		d := start(t, policy())
		d.answer(say("Menu?"))
		d.hear()
		d.speak("hello")
		d.do(machine.TurnFailed{Turn: d.turn, Maybe: true, Broken: true})
		require.Contains(t, d.all, machine.Effect(machine.ReadState{Turn: d.turn}))
		d.keys("5#")
		d.do(machine.StateRead{Turn: d.turn, NotExecuted: !ran})
		if ran {
			require.Len(t, d.sent, 2)
			require.Equal(t, []string{"Menu?", "<apology>", "Menu?"}, d.said)
		} else {
			require.Equal(t, []string{"launch", "text:hello", "text:hello"}, d.types())
			require.Equal(t, d.vars[1], d.vars[2], "with all that travelled with it")
		}
	}
}

func TestEmptyAnswerRepeatsTheLastPrompt(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"))
	d.hear()
	d.speak("hello")
	d.answer()
	d.wait(10060 * time.Millisecond)
	require.Equal(t, []string{"Menu?", "Menu?"}, d.said)
	require.Len(t, d.sent, 2)
}

func TestHoldStopsTheConversation(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), say("Two."), noReply(5*time.Second))
	d.begin()
	d.wait(500 * time.Millisecond)
	d.do(machine.Held{})
	require.Empty(t, d.cues)
	d.wait(5 * time.Minute)
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "music"})
	d.keys("1#")
	require.Len(t, d.sent, 1, "music is no turn")
	d.do(machine.Resumed{})
	require.Equal(t, []string{"One.", "Two.", "One.", "Two."}, d.said)
	d.hear()
	d.wait(5060 * time.Millisecond)
	require.Equal(t, "no-reply", d.types()[1])
}

func TestHoldStopsTheNoReplyTimer(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), noReply(5*time.Second))
	d.hear()
	d.wait(2060 * time.Millisecond)
	d.do(machine.Held{})
	d.wait(time.Minute)
	d.do(machine.Resumed{})
	d.wait(2999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Len(t, d.sent, 2)
}

func TestHoldIsBounded(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."))
	d.do(machine.Held{})
	d.wait(10 * time.Minute)
	require.NotNil(t, d.hung)
}

func TestDialReportsItsOutcomeByPath(t *testing.T) {
	all := []string{"success", "busy", "no answer", "declined", "failed"}
	for _, c := range []struct {
		out   machine.Outcome
		paths []string
		def   int
		want  string
	}{
		{machine.Busy, all, 4, "busy"},
		{machine.NoAnswer, all, 4, "no answer"},
		{machine.Declined, all, 4, "declined"},
		{machine.Unreachable, all, 4, "failed"},
		{machine.Refused, all, 0, "failed"},
		{machine.Unconfirmed, all, 0, "failed"},
		{machine.Busy, []string{"success", "failed"}, 0, "failed"},
		{machine.Busy, []string{"call success", "later"}, 1, "later"},
		{machine.Connected, []string{"call success", "failed"}, 1, "call success"},
		{machine.Human, []string{"failed", "connected"}, 0, "connected"},
	} {
		d := start(t, policy())
		d.answer(say("Please hold."), dial(c.def, c.paths...))
		require.Nil(t, d.move, "after the speech before it was heard")
		d.hear()
		require.NotNil(t, d.move)
		d.keys("1#")
		d.do(machine.SpeechStarted{})
		d.wait(20 * time.Second)
		require.Len(t, d.sent, 1, "nothing is sent while a hand-over runs")
		d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: c.out, Cause: "x", Took: 20 * time.Second})
		require.Equal(t, []string{"launch", c.want}, d.types())
		require.Equal(t, string(c.out), d.vars[1]["transfer_outcome"])
		require.Equal(t, c.out.Success(), d.hung != nil)
	}
}

func TestNothingFollowsASuccessfulHandover(t *testing.T) {
	d := start(t, policy())
	d.answer(dial(1, "success", "failed"))
	d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.Connected})
	require.True(t, d.hung.Transferred)
	d.do(machine.LineGone{Why: "we hung up"})
	require.False(t, d.m.Ended(), "the path's turn still runs")
	d.answer(say("Thank you for calling."), end)
	require.True(t, d.m.Ended())
	require.NotContains(t, d.said, "Thank you for calling.")
	require.Equal(t, "the caller was handed over", d.m.Why())
}

func TestDialThatDoesNotStop(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Please hold."), dial(0, "success", "failed"), say("Thank you for calling."), end)
	d.hear()
	require.Equal(t, 1, d.notes(machine.NoteStopOnAction))
	d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.Busy})
	require.Len(t, d.sent, 1, "no reply is sent for it")
	d.hear()
	require.Nil(t, d.hung, "the end behind it is not obeyed")
	require.Equal(t, "<transfer_failed>", d.said[len(d.said)-1])
	require.Equal(t, []string{"launch", "launch"}, d.types())
	require.Equal(t, "busy", d.vars[1]["transfer_outcome"])
}

func TestActionWithoutDefaultTakesItsFirstPath(t *testing.T) {
	d := start(t, policy())
	d.answer(machine.Item{Kind: machine.Action, Name: "hold", Paths: []string{"resume"}, Default: -1})
	require.Equal(t, []string{"launch", "resume"}, d.types(), "any other reply would be a dead end")
}

func TestUnknownActionTakesItsDefaultPathAfterTheSpeech(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Paying."), machine.Item{Kind: machine.Action, Name: "Pay", Paths: []string{"success", "denied"}, Default: 1})
	require.Len(t, d.sent, 1)
	d.hear()
	require.Equal(t, []string{"launch", "denied"}, d.types())
}

func TestPassingActionsThatWait(t *testing.T) {
	d := start(t, policy())
	d.answer(machine.Item{Kind: machine.Action, Name: "sip-header", Body: map[string]any{"name": "X-A", "value": "1"}, Paths: []string{"done"}, Default: -1})
	require.Equal(t, []string{"launch", "done"}, d.types())
	require.Contains(t, d.all, machine.Effect(machine.SetHeader{Name: "X-A", Value: "1"}))
}

func TestCollect(t *testing.T) {
	collect := machine.Item{Kind: machine.Action, Name: "collect", Body: map[string]any{"min": 2., "max": 4., "timeout": 5.}, Paths: []string{"entered", "timeout"}, Default: 1}
	d := start(t, policy())
	d.answer(say("PIN?"), collect)
	d.hear()
	d.keys("1234")
	require.Equal(t, []string{"launch", "entered"}, d.types())
	require.Equal(t, "1234", d.vars[1]["collected_digits"])
	d.answer(say("PIN?"), collect)
	d.hear()
	d.wait(5060 * time.Millisecond)
	require.Equal(t, "timeout", d.types()[2])
	d.answer(machine.Item{Kind: machine.Action, Name: "DTMF", Paths: []string{"DTMF 1", "default"}, Default: 1})
	d.keys("1")
	require.Equal(t, "DTMF 1:1", d.types()[3])
}

func TestCallerHangsUpInEveryState(t *testing.T) {
	steps := []func(d *drive){
		func(*drive) {},
		func(d *drive) { d.answer(say("Menu?"), noReply(time.Second)) },
		func(d *drive) { d.hear() },
		func(d *drive) { d.do(machine.SpeechStarted{}) },
		func(d *drive) { d.do(machine.SpeechEnded{}) },
		func(d *drive) { d.keys("1") },
		func(d *drive) { d.keys("#") },
		func(d *drive) { d.answer(dial(0, "failed")) },
	}
	for n := range steps {
		d := start(t, policy())
		for _, f := range steps[:n+1] {
			f(d)
		}
		sent := len(d.sent)
		d.do(machine.LineGone{Why: "the caller hung up"})
		d.wait(5 * time.Second)
		require.True(t, d.m.Ended(), n)
		require.Len(t, d.sent, sent)
		require.Equal(t, "the caller hung up", d.m.Why())
		require.Nil(t, d.hung)
	}
}

func TestByeThatCompletesAHandover(t *testing.T) {
	d := start(t, policy())
	d.answer(dial(1, "success", "failed"))
	d.do(machine.LineGone{Why: "the caller hung up"})
	require.False(t, d.m.Ended())
	d.do(machine.TransferDone{Seq: d.move.Seq, Outcome: machine.Connected})
	require.Equal(t, []string{"launch", "success"}, d.types())
	d.do(machine.TurnDone{Turn: d.turn})
	require.True(t, d.m.Ended())
}

func TestStalledPromptIsGivenUp(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Never."), noReply(5*time.Second))
	d.wait(1500 * time.Millisecond)
	require.Equal(t, []string{"Never.", "<filler>", "Never."}, d.said)
	d.wait(3500 * time.Millisecond)
	require.Contains(t, d.said, "<apology>")
	d.hear()
	d.wait(5060 * time.Millisecond)
	require.Equal(t, "no-reply", d.types()[1])
}

func TestChoiceWithoutSpeechIsReadOut(t *testing.T) {
	d := start(t, policy())
	d.answer(choice("Billing", "Agent", "Hours"))
	require.Equal(t, []string{"You can say: Billing, Agent, or Hours."}, d.said)
}

func TestLimits(t *testing.T) {
	p := policy()
	p.MaxTurns = 2
	d := start(t, p)
	for range 2 {
		d.answer(say("Hm?"))
		d.hear()
		d.keys("5#")
	}
	require.Equal(t, "<limit>", d.said[len(d.said)-1])
	require.Len(t, d.sent, 2)
	d = start(t, policy())
	d.answer(say("Hm?"), noReply(29*time.Minute))
	d.hear()
	d.do(machine.SpeechStarted{})
	d.wait(30 * time.Minute)
	require.True(t, slices.Contains(d.said, "<limit>"))
}

func TestIntentMap(t *testing.T) {
	p := policy()
	p.Intents = []machine.Intent{{Phrase: "a {size} pizza with {top}", Name: "order_pizza"}}
	d := start(t, p)
	d.answer(say("Yes?"))
	d.hear()
	d.speak("A very large pizza, with cheese.")
	pl := d.sent[1].Payload.(dialog.IntentPayload)
	require.Equal(t, "order_pizza", pl.Intent.Name)
	require.Equal(t, []dialog.Entity{{Name: "size", Value: "very large"}, {Name: "top", Value: "cheese"}}, pl.Entities)
}

func TestSlowRecogniserIsCovered(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), noReply(5*time.Second))
	d.hear()
	d.do(machine.SpeechStarted{})
	d.do(machine.Words{Utterance: d.utt, Text: "billing"})
	d.do(machine.SpeechEnded{})
	d.wait(1500 * time.Millisecond)
	require.Equal(t, []string{"Menu?", "<filler>"}, d.said)
	d.wait(500 * time.Millisecond)
	require.Equal(t, []string{"launch", "text:billing"}, d.types())
}

func TestTurnThatMayHaveRunIsNotRepeated(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), noReply(5*time.Second))
	d.hear()
	d.speak("hello")
	d.do(machine.TurnFailed{Turn: d.turn, Maybe: true, Reason: "408"})
	d.wait(20 * time.Second)
	require.Equal(t, []string{"launch", "text:hello"}, d.types()[:2])
	require.NotContains(t, d.types()[2:], "text:hello")
}

func TestFailedLaunchIsApologisedForAndMadeOnceMore(t *testing.T) {
	d := start(t, policy())
	d.do(machine.TurnFailed{Turn: d.turn, Maybe: true, Reason: "500"})
	d.hear()
	require.Equal(t, []string{"<apology>"}, d.said)
	require.Equal(t, []string{"launch", "launch"}, d.types())
	require.Equal(t, "+14155550100", d.vars[1]["caller_number"])
	d.do(machine.TurnFailed{Turn: d.turn, Maybe: true, Reason: "500"})
	d.hear()
	require.NotNil(t, d.hung)
	require.Len(t, d.sent, 2)
}

func TestRefusedKeyIsNotTriedAgain(t *testing.T) {
	d := start(t, policy())
	d.do(machine.TurnFailed{Turn: d.turn, Refused: true, Reason: "401"})
	d.hear()
	require.Equal(t, []string{"<apology>", "<limit>"}, d.said)
	require.NotNil(t, d.hung)
	require.Len(t, d.sent, 1)
}

func TestKeysDuringThePromptOfCollect(t *testing.T) {
	collect := machine.Item{Kind: machine.Action, Name: "collect", Body: map[string]any{"min": 4., "max": 4.}, Paths: []string{"entered", "timeout"}, Default: 1}
	for _, c := range []struct {
		how   machine.Typeahead
		early bool
		want  string
	}{{machine.Barge, false, "entered"}, {machine.Barge, true, "entered"}, {machine.Buffer, false, "entered"}, {machine.Buffer, true, "entered"}, {machine.Drop, false, "timeout"}} {
		p := policy()
		p.Keys.Typeahead = c.how
		d := start(t, p)
		if c.early {
			d.keys("1234")
		}
		d.answer(say("Your PIN, please."), collect)
		if !c.early {
			d.begin()
			d.keys("1234")
		}
		d.hear()
		d.wait(11 * time.Second)
		require.Equal(t, c.want, d.types()[1])
	}
}

func TestEmptyFirstAnswerIsNoSilence(t *testing.T) {
	d := start(t, policy())
	d.answer()
	require.Equal(t, []string{"<apology>"}, d.said)
}

func TestBrokenAudioAloneIsApologisedFor(t *testing.T) {
	d := start(t, policy())
	d.answer(machine.Item{Kind: machine.Sound, Src: "https://cdn.example.com/x.mp3"}, noReply(5*time.Second))
	d.do(machine.PlayEnded{Cue: d.cues[0].seq, Bad: true})
	require.Equal(t, "<apology>", d.said[len(d.said)-1])
}

func TestPauseBetweenCoversIsShort(t *testing.T) {
	d := start(t, policy())
	d.wait(1500 * time.Millisecond)
	d.hear()
	d.wait(1900 * time.Millisecond)
	require.Equal(t, []string{"<filler>", "<filler>"}, d.said)
}

// A streamed answer may last; only its silence is bounded.
func TestALongStreamIsNoTimeOut(t *testing.T) {
	d := start(t, policy())
	for range 4 {
		d.at += 10 * time.Second
		d.do(machine.TraceArrived{Turn: d.turn, Items: []machine.Item{{Kind: machine.Speech, Text: "And so on.", Default: -1}}})
	}
	d.do(machine.TurnDone{Turn: d.turn})
	require.Equal(t, []string{"launch"}, d.types(), "nothing was sent again")
	for _, e := range d.all {
		_, gaveUp := e.(machine.CancelTurn)
		require.False(t, gaveUp)
	}
}
