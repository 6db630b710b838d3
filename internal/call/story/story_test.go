package story_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/call/story"
)

// A stage drives a real machine and collects what is told of it.
type stage struct {
	t      *testing.T
	m      *machine.Machine
	teller *story.Teller
	told   []string
	last   []machine.Effect
	first  time.Duration // when the sound of the next cue was there
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return &stage{t: t, teller: story.NewTeller(), m: machine.New(machine.Policy{
		NoReply: 10 * time.Second, MaxNoReplies: 3, NoReplyGuard: 10, TurnTimeout: 17 * time.Second, ThinkingAfter: 1500 * time.Millisecond,
		BargeIn: machine.BargeIn{Speech: true, Keys: true, FalseBargeIn: 1500 * time.Millisecond}, DialNames: []string{"dial"},
		DialTimeout: 30 * time.Second, HoldMax: time.Minute, MaxDuration: time.Hour, MaxTurns: 100,
		Keys: machine.KeyPolicy{Max: 4, Delimiters: "#", Interdigit: 2 * time.Second, ChoiceKeys: true},
	})}
}

func (s *stage) step(at time.Duration, ev machine.Event) {
	s.t.Helper()
	s.last = s.m.Step(at, ev)
	for _, told := range s.teller.Tell(story.Step{At: at, Event: ev, Effects: s.last, Waits: s.m.Waits(), Rendered: s.first}) {
		data, err := json.Marshal(told.Data)
		require.NoError(s.t, err)
		s.told = append(s.told, told.Kind+" "+string(data))
	}
}

func effect[E machine.Effect](s *stage) E {
	s.t.Helper()
	for _, e := range s.last {
		if found, ok := e.(E); ok {
			return found
		}
	}
	var none E
	s.t.Fatalf("no %T among %v", none, s.last)
	return none
}

func (s *stage) take() []string {
	out := s.told
	s.told = nil
	return out
}

// greet brings the call to the point where it listens.
func (s *stage) greet() {
	s.step(0, machine.Answered{})
	turn := effect[machine.SendTurn](s).Seq
	s.step(100*time.Millisecond, machine.TraceArrived{
		Turn: turn, Items: []machine.Item{{Kind: machine.Speech, Text: "Yes or no?", Default: -1}},
		Trace: dialog.Trace{Type: "speak", Payload: json.RawMessage(`{"message":"Yes or no?"}`)},
	})
	cue := effect[machine.Play](s).Cue
	s.step(150*time.Millisecond, machine.TraceArrived{Turn: turn, Items: []machine.Item{
		{Kind: machine.Choice, Buttons: []dialog.Button{{Name: "Yes", Request: json.RawMessage(`{"type":"path-1"}`)}, {Name: "No", Request: json.RawMessage(`{"type":"path-2"}`)}}},
		{Kind: machine.NoReply, Timeout: 4 * time.Second},
	}})
	s.step(160*time.Millisecond, machine.TurnDone{Turn: turn})
	s.first = 170 * time.Millisecond
	s.step(200*time.Millisecond, machine.PlayStarted{Cue: cue})
	s.first = 0
	s.step(time.Second, machine.PlayEnded{Cue: cue, Heard: 800 * time.Millisecond})
}

func TestAGreetingAndAnAnswer(t *testing.T) {
	s := newStage(t)
	s.greet()
	require.Equal(t, []string{
		`state {"t":0,"state":"up"}`,
		`trace {"t":0.1,"type":"speak","payload":{"message":"Yes or no?"}}`,
		`listen {"t":0.16,"no_reply":0,"open":false,"choices":[{"label":"Yes","key":1},{"label":"No","key":2}],"keys":{"max":4,"delimiter":"#"}}`,
		`agent {"t":0.2,"seq":2,"text":"Yes or no?","kind":"speech"}`,
		`turn {"t":0.2,"n":1,"action":"launch","speech_end":null,"transcript":null,"sent":0,"first_trace":0.1,"first_audio":0.17,"first_packet":0.2}`,
		`agent_end {"t":1,"seq":2,"heard":0.8,"why":"done"}`,
		`listen {"t":1,"no_reply":4.06,"open":true,"choices":[{"label":"Yes","key":1},{"label":"No","key":2}],"keys":{"max":4,"delimiter":"#"}}`,
	}, s.take())

	s.step(2*time.Second, machine.SpeechStarted{})
	s.step(2300*time.Millisecond, machine.SpeechConfirmed{})
	s.step(2500*time.Millisecond, machine.Words{Utterance: 1, Text: "ye"})
	s.step(2600*time.Millisecond, machine.SpeechEnded{})
	s.step(2800*time.Millisecond, machine.Heard{Utterance: 1, Text: "yes", Confidence: .9})
	turn := effect[machine.SendTurn](s)
	told := s.take()
	require.Equal(t, []string{
		`listen {"t":2,"no_reply":0,"open":true,"choices":[{"label":"Yes","key":1},{"label":"No","key":2}],"keys":{"max":4,"delimiter":"#"}}`,
		`caller {"t":2.5,"text":"ye","final":false,"keyed":false}`,
		`caller {"t":2.8,"text":"yes","final":true,"keyed":false,"confidence":0.9}`,
		`listen_end {"t":2.8}`,
	}, told)
	// A turn without sound is told when it is done.
	s.step(3*time.Second, machine.TurnDone{Turn: turn.Seq})
	require.Contains(t, s.take(),
		`turn {"t":3,"n":2,"action":"path-1","speech_end":2.6,"transcript":2.8,"sent":2.8,"first_trace":null,"first_audio":null,"first_packet":null}`)
}

func TestKeysAndTypedWords(t *testing.T) {
	s := newStage(t)
	s.greet()
	s.take()
	s.step(2*time.Second, machine.Key{Digit: '2'})
	require.Contains(t, s.take(), `caller {"t":2,"text":"2","final":false,"keyed":true}`)

	s = newStage(t)
	s.greet()
	s.take()
	s.step(2*time.Second, machine.Typed{Text: " No "})
	require.NotEmpty(t, effect[machine.SendTurn](s).Action.Type)
	require.Contains(t, s.take(), `caller {"t":2,"text":"No","final":true,"keyed":false,"confidence":1}`)
}

func TestTypedWordsStopAPrompt(t *testing.T) {
	s := newStage(t)
	s.step(0, machine.Answered{})
	turn := effect[machine.SendTurn](s).Seq
	s.step(time.Second, machine.TraceArrived{Turn: turn, Items: []machine.Item{{Kind: machine.Speech, Text: "Long.", Default: -1}, {Kind: machine.Choice}}})
	cue := effect[machine.Play](s).Cue
	s.step(1100*time.Millisecond, machine.Typed{Text: "while it runs"})
	s.step(1200*time.Millisecond, machine.TurnDone{Turn: turn})
	s.step(1300*time.Millisecond, machine.PlayStarted{Cue: cue})
	s.step(1400*time.Millisecond, machine.Typed{Text: "pizza"})
	require.Equal(t, "text", effect[machine.SendTurn](s).Action.Type)
	effect[machine.StopPlay](s)
}

func TestAHandOver(t *testing.T) {
	s := newStage(t)
	s.greet()
	s.step(2*time.Second, machine.Typed{Text: "human"})
	turn := effect[machine.SendTurn](s).Seq
	s.take()
	dial := machine.Item{Kind: machine.Action, Name: "dial", Waits: true, Default: 1, Body: map[string]any{"target": "human"}, Paths: []string{"success", "failed"}}
	s.step(3*time.Second, machine.TraceArrived{Turn: turn, Items: []machine.Item{dial}})
	s.step(3*time.Second, machine.TurnDone{Turn: turn})
	told := s.take()
	require.Contains(t, told, `state {"t":3,"state":"transferring"}`)
	require.Contains(t, told, `action {"t":3,"name":"dial","waits":true,"body":{"target":"human"}}`)
	seq := effect[machine.Transfer](s).Seq
	s.step(9*time.Second, machine.TransferDone{Seq: seq, Outcome: machine.Busy, Cause: "486", Target: "sip:x@y"})
	told = s.take()
	require.Contains(t, told, `transfer {"t":9,"target":"sip:x@y","outcome":"busy","cause":"486"}`)
	require.Contains(t, told, `action_done {"t":9,"name":"dial","path":"failed"}`)
	require.Contains(t, told, `state {"t":9,"state":"up"}`)

	turn = effect[machine.SendTurn](s).Seq
	s.step(10*time.Second, machine.TraceArrived{Turn: turn, Items: []machine.Item{dial}})
	s.step(10*time.Second, machine.TurnDone{Turn: turn})
	seq = effect[machine.Transfer](s).Seq
	s.take()
	s.step(11*time.Second, machine.TransferDone{Seq: seq, Outcome: machine.Connected, Cause: "200", Target: "sip:x@y"})
	told = s.take()
	require.Contains(t, told, `state {"t":11,"state":"bridged"}`)
	require.NotContains(t, strings.Join(told, "\n"), `"state":"up"`)
}

func TestWhatNobodyCanReadIsNotShown(t *testing.T) {
	teller := story.NewTeller()
	long, err := json.Marshal(strings.Repeat("x", 20<<10))
	require.NoError(t, err)
	told := teller.Tell(story.Step{Event: machine.TraceArrived{Trace: dialog.Trace{Type: "speak", Payload: long}}})
	require.Len(t, told, 1)
	data, err := json.Marshal(told[0].Data)
	require.NoError(t, err)
	require.JSONEq(t, `{"t":0,"type":"speak","payload":"(speak of 20 kB, not shown)"}`, string(data))
}

func TestHoldIsShown(t *testing.T) {
	s := newStage(t)
	s.greet()
	s.take()
	s.step(2*time.Second, machine.Held{})
	require.Contains(t, s.take(), `state {"t":2,"state":"held"}`)
	s.step(5*time.Second, machine.Resumed{})
	require.Contains(t, s.take(), `state {"t":5,"state":"up"}`)
}
