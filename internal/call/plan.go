package call

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/ssml"
)

// handoffBegins is the event of a live-agent-handoff that asks for a human.
const handoffBegins = "chat_started"

// A planner makes items of traces.
type planner struct {
	ssml    bool          // the voice takes SSML
	noReply time.Duration // where a no-reply trace names no time-out
}

// plan returns what a step of the agent's answer asks for, in order.
func (p planner) plan(s dialog.Step) []machine.Item {
	switch s.Kind {
	case dialog.KindSpeak:
		return p.speech(s)
	case dialog.KindAudio:
		var items []machine.Item
		if s.Src != "" {
			items = append(items, machine.Item{Kind: machine.Sound, Src: s.Src})
		}
		s.Src = ""
		return append(items, p.speech(s)...)
	case dialog.KindCard:
		buttons := machine.Item{Kind: machine.Choice, Buttons: s.Buttons}
		items := p.speech(s)
		if names := readOut(s.Buttons); names != "" {
			items = append(items, machine.Item{Kind: machine.Speech, Text: names, Default: -1})
		}
		if len(s.Buttons) > 0 {
			items = append(items, buttons)
		}
		return items
	case dialog.KindChoice:
		return []machine.Item{{Kind: machine.Choice, Buttons: s.Buttons}}
	case dialog.KindNoReply:
		if s.Timeout <= 0 {
			s.Timeout = p.noReply
		}
		return []machine.Item{{Kind: machine.NoReply, Timeout: s.Timeout}}
	case dialog.KindDTMF:
		return []machine.Item{{Kind: machine.Keypad, Keypad: machine.KeypadConf{
			Enabled: s.DTMF.Enabled, Timeout: s.DTMF.Timeout, Delimiters: s.DTMF.Delimiter, Max: s.DTMF.MaxDigits,
		}}}
	case dialog.KindAction:
		return []machine.Item{action(s)}
	case dialog.KindForward:
		return []machine.Item{forward(s)}
	case dialog.KindStream:
		if s.Src == "" || s.State != "PLAY" && s.State != "LOOP" {
			return nil
		}
		return []machine.Item{{Kind: machine.Sound, Src: s.Src, Loop: s.Loop || s.State == "LOOP"}}
	case dialog.KindHandoff:
		return p.handoff(s)
	case dialog.KindEnd:
		return []machine.Item{{Kind: machine.End}}
	case dialog.KindIgnore, dialog.KindEntity, dialog.KindDebug, dialog.KindChunk, dialog.KindCompletion:
	}
	return nil
}

// handoff speaks the message and asks for a human, unless the trace tells of
// something else in the life of a chat.
func (p planner) handoff(s dialog.Step) []machine.Item {
	items := p.speech(s)
	if s.State == "" || s.State == handoffBegins {
		items = append(items, machine.Item{Kind: machine.Action, Name: machine.TraceHandoff, Default: -1})
	}
	return items
}

// speech splits words into sentences; SSML stays whole where the voice takes it.
func (p planner) speech(s dialog.Step) []machine.Item {
	if s.Src != "" {
		return []machine.Item{{Kind: machine.Speech, Src: s.Src, Text: plainText(s), Voice: s.Voice, Default: -1}}
	}
	if s.SSML && p.ssml {
		if doc, markup := ssml.Speech(s.Text); markup {
			return []machine.Item{{Kind: machine.Speech, Text: doc, SSML: true, Voice: s.Voice, Default: -1}}
		}
	}
	var items []machine.Item
	for _, sentence := range ssml.Sentences(plainText(s)) {
		items = append(items, machine.Item{Kind: machine.Speech, Text: sentence, Voice: s.Voice, Default: -1})
	}
	return items
}

func plainText(s dialog.Step) string {
	if s.SSML {
		return ssml.Reduce(s.Text)
	}
	return ssml.Plain(s.Text)
}

func readOut(buttons []dialog.Button) string {
	names := make([]string, 0, len(buttons))
	for _, b := range buttons {
		if n := ssml.Plain(b.Name); n != "" {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, ", ") + "."
}

func action(s dialog.Step) machine.Item {
	it := machine.Item{Kind: machine.Action, Name: s.Name, Payload: s.Payload, Default: s.DefaultPath}
	it.Body, _ = dialog.Object(s.Payload)
	for _, path := range s.Paths {
		it.Paths = append(it.Paths, path.Event.Type)
	}
	return it
}

func forward(s dialog.Step) machine.Item {
	body := map[string]any{"target": s.Forward.Address}
	if s.Forward.Extension != "" {
		body["extension"] = s.Forward.Extension
	}
	raw, err := json.Marshal(body)
	if err != nil {
		raw = nil // a map of strings always encodes
	}
	return machine.Item{Kind: machine.Action, Name: "call-forward", Forward: true, Payload: raw, Body: body, Default: -1}
}

// didNotRun reports whether the agent's state shows that an action had no
// effect: a launch that ran has left a stack, words that ran are the flow's last
// utterance. Of anything else it cannot be known.
func didNotRun(s dialog.State, a dialog.Action) bool {
	switch a.Type {
	case dialog.ActionLaunch:
		return len(s.Stack) == 0
	case dialog.ActionText:
		var last string
		words, ok := a.Payload.(string)
		raw, known := s.Variables["last_utterance"]
		if !ok || !known || json.Unmarshal(raw, &last) != nil {
			return false
		}
		return last != words
	}
	return false
}
