package machine_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// A model knows, from outside, what may be sent.
type model struct {
	running, reading, listening, handing, held, hung, gone bool
	cues                                                   map[uint64]bool // played or superseded
	sending                                                uint64
}

// ours are actions on behalf of nobody's words or keys.
func onCallersBehalf(typ string) bool {
	return typ == "text" || typ == "no-reply" || typ == "intent" || typ == "dtmf" || strings.HasPrefix(typ, "path-")
}

func (m *model) check(t *rapid.T, d *drive, effects []machine.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case machine.SendTurn:
			if m.running || m.handing {
				t.Fatalf("%s sent while a turn or a hand-over runs", e.Action.Type)
			}
			if onCallersBehalf(e.Action.Type) && (m.held || m.hung || m.gone || !m.listening) {
				t.Fatalf("%s sent although the agent does not listen (%+v)", e.Action.Type, *m)
			}
			m.running, m.reading = true, false
		case machine.CancelTurn:
			m.running, m.reading = false, false
		case machine.ReadState:
			m.running, m.reading = true, true
		case machine.Transfer:
			m.handing = true
		case machine.CancelTransfer:
			m.handing = false
		case machine.Hangup:
			m.hung = true
		case machine.SendDigits:
			m.sending = e.Seq
		case machine.Play:
			m.played(t, e.Cue)
		case machine.Queue:
			m.played(t, e.Cue)
		}
	}
	if _, ok := d.m.Deadline(); !ok && !d.m.Ended() {
		t.Fatal("a live state has no deadline")
	}
}

func (m *model) played(t *rapid.T, cue uint64) {
	if m.cues[cue] {
		t.Fatal("a cue was played twice")
	}
	if m.held {
		t.Fatal("a prompt was played to a caller's hold music")
	}
	m.cues[cue] = true
}

func items(t *rapid.T) ([]machine.Item, bool) {
	var out []machine.Item
	listening := true
	for range rapid.IntRange(0, 5).Draw(t, "items") {
		listening = true
		switch rapid.IntRange(0, 12).Draw(t, "item") {
		case 0, 1, 2:
			out = append(out, say("Words."))
		case 3:
			out = append(out, choice("Billing", "Agent"))
		case 4:
			out = append(out, noReply(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms"))*time.Millisecond))
		case 5:
			out = append(out, end)
			return out, false
		case 6:
			out = append(out, dial(rapid.IntRange(-1, 1).Draw(t, "default"), "success", "failed"))
			listening = false
		case 7:
			out = append(out, machine.Item{Kind: machine.Action, Name: "collect", Paths: []string{"entered", "timeout"}, Default: -1})
			listening = false
		case 9:
			out = append(out, loop(rapid.SampledFrom([]string{tune, tune + "2"}).Draw(t, "tune")))
		case 10:
			out = append(out, play(tune))
		case 11:
			out = append(out, handoff)
		case 12:
			out = append(out, sendDTMF("1"))
		case 8:
			out = append(out, machine.Item{Kind: machine.Action, Name: "interruption", Body: map[string]any{"allowInterrupts": rapid.Bool().Draw(t, "allow")}, Default: -1})
		}
	}
	return out, listening
}

// TestNothingIsSentOutOfTurn holds the one predicate that guards every send,
// whatever happens in whatever order.
func TestNothingIsSentOutOfTurn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := policy()
		p.Fallback = rapid.SampledFrom([]string{"", "support"}).Draw(rt, "fallback")
		p.BargeIn.Skip = rapid.Bool().Draw(rt, "skip")
		p.SpeechAhead = machine.SpeechAhead(rapid.IntRange(0, 1).Draw(rt, "ahead"))
		p.Keys.Typeahead = machine.Typeahead(rapid.IntRange(0, 2).Draw(rt, "typeahead"))
		d := &drive{t: t, m: machine.New(p)}
		mo := &model{cues: map[uint64]bool{}}
		step := func(ev machine.Event) {
			before := len(d.all)
			d.do(ev)
			mo.check(rt, d, d.all[before:])
		}
		step(machine.Answered{})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 18).Draw(rt, "event") {
			case 0, 1, 2:
				if !mo.running || mo.reading {
					continue
				}
				its, listening := items(rt)
				before := len(d.all)
				turn := d.turn
				d.do(machine.TraceArrived{Turn: turn, Items: its})
				mo.check(rt, d, d.all[before:])
				if turn != d.turn {
					continue
				}
				mo.running, mo.listening = false, listening
				step(machine.TurnDone{Turn: turn})
			case 3:
				if mo.running && !mo.reading {
					mo.running, mo.listening = false, true
					step(machine.TurnFailed{Turn: d.turn, Maybe: rapid.Bool().Draw(rt, "maybe"), Reason: "500"})
				}
			case 4:
				if mo.reading {
					mo.running, mo.reading = false, false
					step(machine.StateRead{Turn: d.turn, NotExecuted: rapid.Bool().Draw(rt, "not")})
				}
			case 5, 6, 7:
				if len(d.cues) > 0 {
					c := d.cues[0]
					step(machine.PlayStarted{Cue: c.seq})
					if bad := rapid.IntRange(0, 9).Draw(rt, "broken") == 0; len(d.cues) > 0 && d.cues[0].seq == c.seq && (!c.it.Loop || bad) {
						d.cues = d.cues[1:]
						if c.it.Loop {
							step(machine.PlayEnded{Cue: c.seq, Bad: true})
							continue
						}
						step(machine.PlayEnded{Cue: c.seq, Heard: time.Second, Bad: rapid.IntRange(0, 9).Draw(rt, "bad") == 0})
					}
				}
			case 8:
				step(machine.Key{Digit: rapid.SampledFrom([]byte("129#*")).Draw(rt, "key"), Down: rapid.Bool().Draw(rt, "down")})
			case 17:
				step(machine.KeyUp{Digit: rapid.SampledFrom([]byte("129#*")).Draw(rt, "key up")})
			case 18:
				step(machine.DigitsSent{Seq: mo.sending})
			case 9:
				step(machine.SpeechStarted{})
			case 10:
				step(machine.SpeechConfirmed{})
			case 11:
				step(machine.SpeechEnded{})
				step(machine.Heard{Utterance: d.utt, Text: rapid.SampledFrom([]string{"", "billing", "hello"}).Draw(rt, "text")})
			case 12:
				mo.held = true
				step(machine.Held{})
			case 13:
				mo.held = false
				step(machine.Resumed{})
			case 14:
				if mo.handing {
					mo.handing = false
					step(machine.TransferDone{Seq: d.move.Seq, Outcome: rapid.SampledFrom([]machine.Outcome{machine.Connected, machine.Busy, machine.Refused}).Draw(rt, "outcome")})
				}
			case 15:
				if rapid.IntRange(0, 9).Draw(rt, "gone") == 0 {
					mo.gone = true
					step(machine.LineGone{Why: "gone"})
				}
			case 16:
				d.at += time.Duration(rapid.IntRange(0, 4000).Draw(rt, "wait")) * time.Millisecond
				step(machine.Tick{})
			}
			if d.m.Ended() {
				return
			}
		}
	})
}
