package machine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// policy is what most agents have.
func policy() machine.Policy {
	return machine.Policy{
		NoReply: 10 * time.Second, MaxNoReplies: 3, NoReplyGuard: 10,
		TurnTimeout: 17 * time.Second, ThinkingAfter: 1500 * time.Millisecond, MinConfidence: 0.3,
		BargeIn:   machine.BargeIn{Speech: true, Keys: true, Protect: 300 * time.Millisecond, FalseBargeIn: 1500 * time.Millisecond},
		Keys:      machine.KeyPolicy{Max: 20, Delimiters: "#", Interdigit: 2 * time.Second, ChoiceKeys: true},
		DialNames: []string{"dial"}, DialTimeout: 30 * time.Second,
		HoldMax: 10 * time.Minute, MaxDuration: 30 * time.Minute, MaxTurns: 200,
	}
}

// A drive runs a machine by hand and remembers what it asked for.
type drive struct {
	t    *testing.T
	m    *machine.Machine
	at   time.Duration
	turn uint64
	sent []dialog.Action
	vars []map[string]any
	cues []cue // on the line, the first plays
	said []string
	all  []machine.Effect
	utt  uint64
	hung *machine.Hangup
	move *machine.Transfer
}

type cue struct {
	seq uint64
	it  machine.Item
}

func start(t *testing.T, p machine.Policy) *drive {
	t.Helper()
	d := &drive{t: t, m: machine.New(p)}
	d.do(machine.Answered{Variables: map[string]any{"caller_number": "+14155550100"}})
	require.Equal(t, []string{"launch"}, d.types())
	return d
}

func (d *drive) do(ev machine.Event) {
	for _, e := range d.m.Step(d.at, ev) {
		d.all = append(d.all, e)
		switch e := e.(type) {
		case machine.SendTurn:
			d.turn = e.Seq
			d.sent = append(d.sent, e.Action)
			d.vars = append(d.vars, e.Variables)
		case machine.Play:
			d.cues = []cue{{e.Cue, e.Item}}
			d.said = append(d.said, name(e.Item))
		case machine.Queue:
			d.cues = append(d.cues, cue{e.Cue, e.Item})
			d.said = append(d.said, name(e.Item))
		case machine.StopPlay:
			d.cues = nil
		case machine.OpenUtterance:
			d.utt = e.ID
		case machine.Hangup:
			d.hung = &e
		case machine.Transfer:
			d.move = &e
		}
	}
}

func name(it machine.Item) string {
	if it.Prompt != "" {
		return "<" + string(it.Prompt) + ">"
	}
	return it.Text + it.Src
}

func (d *drive) types() []string {
	var s []string
	for _, a := range d.sent {
		if p, ok := a.Payload.(string); ok {
			s = append(s, a.Type+":"+p)
			continue
		}
		s = append(s, a.Type)
	}
	return s
}

// wait lets time pass and obeys every deadline in it.
func (d *drive) wait(span time.Duration) {
	end := d.at + span
	for {
		due, ok := d.m.Deadline()
		if !ok || due > end {
			break
		}
		d.at = max(d.at, due)
		d.do(machine.Tick{})
	}
	d.at = end
}

func (d *drive) answer(items ...machine.Item) {
	d.do(machine.TraceArrived{Turn: d.turn, Items: items})
	d.do(machine.TurnDone{Turn: d.turn})
}

// hear plays what is on the line to its end, a second each.
func (d *drive) hear() {
	for n := 0; len(d.cues) > 0 && n < 50; n++ {
		c := d.cues[0]
		if c.it.Loop {
			return
		}
		d.do(machine.PlayStarted{Cue: c.seq})
		d.wait(time.Second)
		if len(d.cues) > 0 && d.cues[0].seq == c.seq {
			d.cues = d.cues[1:]
			d.do(machine.PlayEnded{Cue: c.seq, Heard: time.Second})
		}
	}
}

func (d *drive) begin() { d.do(machine.PlayStarted{Cue: d.cues[0].seq}) }

func (d *drive) speak(text string) {
	d.do(machine.SpeechStarted{})
	d.wait(80 * time.Millisecond)
	d.do(machine.SpeechConfirmed{})
	d.wait(time.Second)
	d.do(machine.SpeechEnded{})
	d.wait(50 * time.Millisecond)
	d.do(machine.Heard{Utterance: d.utt, Text: text, Confidence: .9})
}

func (d *drive) keys(s string) {
	for _, k := range []byte(s) {
		d.do(machine.Key{Digit: k})
	}
}

func say(s string) machine.Item { return machine.Item{Kind: machine.Speech, Text: s} }

func noReply(d time.Duration) machine.Item {
	return machine.Item{Kind: machine.NoReply, Timeout: d}
}

func choice(names ...string) machine.Item {
	it := machine.Item{Kind: machine.Choice}
	for i, n := range names {
		it.Buttons = append(it.Buttons, dialog.Button{Name: n, Request: fmt.Appendf(nil, `{"type":"path-%d","payload":{"label":%q}}`, i+1, n)})
	}
	return it
}

func dial(def int, paths ...string) machine.Item {
	return machine.Item{Kind: machine.Action, Name: "dial", Body: map[string]any{"number": "+15551230000"}, Paths: paths, Default: def}
}

var end = machine.Item{Kind: machine.End}

func TestNoReplyCountsFromLastSample(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Hello."), say("Menu?"), choice("Billing"), noReply(6500*time.Millisecond))
	d.hear()
	heard := d.at
	d.wait(6559 * time.Millisecond)
	require.Equal(t, []string{"launch"}, d.types())
	d.wait(time.Millisecond)
	require.Equal(t, []string{"launch", "no-reply"}, d.types())
	require.Equal(t, heard+6560*time.Millisecond, d.at)
	d.answer(say("Still there?"), noReply(3*time.Second))
	d.hear()
	d.wait(3060 * time.Millisecond)
	require.Len(t, d.sent, 3, "each re-prompt brings its own time-out")
}

func TestNoiseStopsNoReplyTimerWhichGoesOn(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), noReply(5*time.Second))
	d.hear()
	d.wait(2060 * time.Millisecond)
	d.do(machine.SpeechStarted{})
	d.wait(10 * time.Second)
	require.Len(t, d.sent, 1, "nobody is silent while he speaks")
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt})
	d.wait(2999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Equal(t, "no-reply", d.sent[1].Type)
}

func TestAtLeastASecondIsLeft(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), noReply(5*time.Second))
	d.hear()
	d.wait(5 * time.Second)
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt})
	d.wait(999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Len(t, d.sent, 2)
}

func TestUnaskedNoReplyRepeatsThePrompt(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"))
	for range 4 {
		d.hear()
		d.wait(10060 * time.Millisecond)
	}
	d.hear()
	require.Equal(t, []string{"Menu?", "Menu?", "Menu?", "Menu?", "<goodbye>"}, d.said)
	require.Len(t, d.sent, 1, "nothing is sent to a flow that asked for nothing")
	require.NotNil(t, d.hung)
}

func TestNoReplyGuard(t *testing.T) {
	d := start(t, policy())
	for range 11 {
		d.answer(say("Hm?"), noReply(time.Second))
		d.hear()
		d.wait(1060 * time.Millisecond)
	}
	require.Equal(t, "<goodbye>", d.said[len(d.said)-1])
	require.Len(t, d.sent, 11)
}

func TestSpeechIsSentAsTextButtonOrIntent(t *testing.T) {
	p := policy()
	p.Intents = []machine.Intent{{Phrase: "order number {number}", Name: "order"}}
	for _, c := range []struct{ said, typ string }{
		{"something else", "text:something else"},
		{"Billing, please!", "path-1"},
		{"order number four two", "intent"},
	} {
		d := start(t, p)
		d.answer(say("Menu?"), choice("Billing", "Agent"), noReply(5*time.Second))
		d.hear()
		d.speak(c.said)
		require.Equal(t, []string{"launch", c.typ}, d.types())
	}
}

func TestLowConfidenceGoesAsText(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), choice("Billing"))
	d.hear()
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "billing", Confidence: .1})
	require.Equal(t, []string{"launch", "text:billing"}, d.types())
}

func TestKeysSelectButtonsAtOnce(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Menu?"), choice("Billing", "Agent"))
	d.hear()
	d.keys("2")
	require.Equal(t, []string{"launch", "path-2"}, d.types())
}

func TestKeyWaitsWhileALongerButtonIsPossible(t *testing.T) {
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprint("Choice ", i))
	}
	d := start(t, policy())
	d.answer(say("Menu?"), choice(names...))
	d.hear()
	d.keys("1")
	d.wait(1999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Equal(t, []string{"launch", "path-1"}, d.types())
	d.answer(say("Menu?"), choice(names...))
	d.hear()
	d.keys("12")
	require.Equal(t, "path-12", d.types()[2])
}

func TestEntries(t *testing.T) {
	for _, c := range []struct {
		name, keys string
		as         machine.KeysAs
		want       []string
	}{
		{"delimiter", "1001#", machine.AsText, []string{"launch", "text:1001"}},
		{"lone delimiter", "#", machine.AsText, []string{"launch"}},
		{"star belongs to it", "*9#", machine.AsText, []string{"launch", "text:*9"}},
		{"as dtmf", "42#", machine.AsDTMF, []string{"launch", "dtmf:42"}},
		{"as event", "4#", machine.AsEvent, []string{"launch", "DTMF 4:4"}},
		{"max", "12345678901234567890", machine.AsText, []string{"launch", "text:12345678901234567890"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policy()
			p.Keys.As = c.as
			d := start(t, p)
			d.answer(say("Number?"), noReply(60*time.Second))
			d.hear()
			d.keys(c.keys)
			require.Equal(t, c.want, d.types())
		})
	}
}

func TestInterdigitTimeout(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Number?"))
	d.hear()
	d.keys("10")
	d.wait(1900 * time.Millisecond)
	d.keys("01")
	d.wait(1999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Equal(t, "text:1001", d.types()[1])
}

func TestKeypadTraceReconfigures(t *testing.T) {
	d := start(t, policy())
	d.answer(say("PIN?"), machine.Item{Kind: machine.Keypad, Keypad: machine.KeypadConf{Enabled: true, Delimiters: "*", Max: 4}})
	d.hear()
	d.keys("1#3*")
	require.Equal(t, "text:1#3", d.types()[1])
	d.answer(say("PIN?"))
	d.hear()
	d.keys("1234")
	require.Equal(t, "text:1234", d.types()[2])
}

func TestTypeahead(t *testing.T) {
	for _, c := range []struct {
		how  machine.Typeahead
		want []string
		said []string
	}{
		{machine.Barge, []string{"launch", "path-1"}, nil},
		{machine.Buffer, []string{"launch", "path-1"}, []string{"Menu?"}},
		{machine.Drop, []string{"launch"}, []string{"Menu?"}},
	} {
		p := policy()
		p.Keys.Typeahead = c.how
		d := start(t, p)
		d.keys("1")
		d.answer(say("Menu?"), choice("Billing"), noReply(time.Minute))
		d.hear()
		require.Equal(t, c.want, d.types())
		require.Equal(t, c.said, d.said)
	}
}

func TestKeyStopsPrompt(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One."), say("Two."), choice("A", "B"))
	d.begin()
	d.keys("2")
	require.Equal(t, "path-2", d.types()[1])
}

func TestKeysBeatSpeechStillRecognised(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Number?"))
	d.hear()
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechEnded{})
	old := d.utt
	d.keys("7")
	d.do(machine.Heard{Utterance: old, Text: "seven"})
	require.Len(t, d.sent, 1)
	d.keys("#")
	require.Equal(t, []string{"launch", "text:7"}, d.types())
}

func TestSpeechAheadOfTheAnswerIsDropped(t *testing.T) {
	d := start(t, policy())
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechConfirmed{})
	d.do(machine.SpeechEnded{})
	d.answer(say("Menu?"))
	d.do(machine.SpeechStarted{})
	d.do(machine.SpeechEnded{})
	d.do(machine.Heard{Utterance: d.utt, Text: "billing"})
	require.Len(t, d.sent, 1)
	d.hear()
	d.speak("agent")
	require.Equal(t, []string{"launch", "text:agent"}, d.types())
}

func TestSpeechAheadIsSentWhereConfigured(t *testing.T) {
	p := policy()
	p.SpeechAhead = machine.SendAhead
	d := start(t, p)
	d.speak("billing")
	d.answer(say("Menu?"))
	require.Equal(t, []string{"launch", "text:billing"}, d.types())
}
