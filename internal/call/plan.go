package call

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/ssml"
)

// handoffBegins is the event of a live-agent-handoff that asks for a human.
const handoffBegins = "chat_started"

// A planner makes items of one turn's traces. The goroutine of the turn owns it.
type planner struct {
	ssml     bool          // the voice takes SSML
	inTraces bool          // the agent's voice comes with its traces
	noReply  time.Duration // where a no-reply trace names no time-out

	streamed dialog.Step     // what of a streamed message is not a sentence yet
	sound    strings.Builder // streamed sound, decoded
	encoding string          // of it
	silent   []machine.Item  // words whose sound may follow
	worded   bool            // a message came in pieces
}

// plan returns what a step of the agent's answer asks for, in order. Words that
// come in pieces are kept until they are a sentence.
func (p *planner) plan(s dialog.Step) []machine.Item {
	switch s.Kind {
	case dialog.KindCompletion:
		return p.words(s)
	case dialog.KindChunk:
		return p.chunk(s)
	case dialog.KindIgnore, dialog.KindDebug:
		return nil // may come between the pieces of a message
	case dialog.KindSpeak:
		if p.inTraces && s.Src == "" {
			before := p.flush(true)
			p.silent = p.speech(s)
			return before
		}
	default:
	}
	return append(p.flush(true), p.items(s)...)
}

// flush returns what still waits for more: at the end of an answer all of it, of
// an answer that broke only whole sentences.
func (p *planner) flush(complete bool) []machine.Item {
	items := p.silent
	p.silent = nil
	p.sound.Reset()
	rest := p.streamed
	p.streamed = dialog.Step{}
	whole := strings.TrimRight(rest.Text, " \t\r\n\"'”’»)*_")
	if !complete && !strings.HasSuffix(whole, ".") && !strings.HasSuffix(whole, "!") && !strings.HasSuffix(whole, "?") {
		return items
	}
	return append(items, p.said(rest)...)
}

// said is the items of one message or a part of it, whose audio is its own.
func (p *planner) said(s dialog.Step) []machine.Item {
	var items []machine.Item
	s.Kind = dialog.KindSpeak
	for _, part := range s.Split() {
		items = append(items, p.items(part)...)
	}
	return items
}

// words adds a piece of a streamed message and returns the sentences that are
// complete.
func (p *planner) words(s dialog.Step) []machine.Item {
	p.worded = true
	var items []machine.Item
	if s.State != stateContent {
		items = p.flush(true)
	}
	if s.State == stateEnd {
		return items
	}
	if s.State == stateStart {
		p.streamed = dialog.Step{SSML: s.SSML, Voice: s.Voice}
	}
	p.streamed.Text += s.Text
	for {
		at := firstSentence(p.streamed.Text, p.streamed.SSML)
		if at == 0 {
			return items
		}
		sentence := p.streamed
		sentence.Text, p.streamed.Text = sentence.Text[:at], p.streamed.Text[at:]
		items = append(items, p.said(sentence)...)
	}
}

// textOf joins the words of items.
func textOf(items []machine.Item) string {
	var words []string
	for _, it := range items {
		if it.Text != "" {
			words = append(words, it.Text)
		}
	}
	return strings.Join(words, " ")
}

// asMessage is the trace that would have brought streamed words in one piece,
// for those who look on. Streamed sound comes beside its words.
func (p *planner) asMessage(items []machine.Item) dialog.Trace {
	if !p.worded {
		return dialog.Trace{}
	}
	payload, err := json.Marshal(map[string]string{"message": textOf(items)})
	if err != nil {
		payload = nil // a map of strings always encodes
	}
	return dialog.Trace{Type: "text", Payload: payload}
}

// The states of what comes in pieces.
const (
	stateStart   = "start"
	stateContent = "content"
	stateEnd     = "end"
)

// openLimit is how many bytes a message may be without a place to cut it, before
// it is cut within markup.
const openLimit = 1200

// firstSentence returns where the first sentence of a message that still grows
// ends, 0 when it may go on. It is not cut within markup, which its two halves
// would no longer be.
func firstSentence(text string, isSSML bool) int {
	sentences := ssml.Sentences(text)
	at := 0
	for i := 0; i+1 < len(sentences); i++ {
		found := strings.Index(text[at:], sentences[i])
		if found < 0 {
			break // characters that nobody speaks were taken out
		}
		at += found + len(sentences[i])
		if !within(text[:at], isSSML) {
			return at
		}
	}
	if len(text) > openLimit && at > 0 {
		return at
	}
	if len(text) > 2*openLimit {
		return strings.LastIndexAny(text[:openLimit], " \n") + 1
	}
	return 0
}

// listNumber is the number of a list's item, whose full stop ends nothing.
var listNumber = regexp.MustCompile(`^\s*\d{1,3}[.)]$`)

// within reports whether text ends inside markup.
func within(text string, isSSML bool) bool {
	if strings.LastIndexByte(text, '{') > strings.LastIndexByte(text, '}') {
		return true
	}
	if isSSML {
		open := strings.Count(text, "<") - 2*strings.Count(text, "</") - strings.Count(text, "/>")
		return open != 0 || strings.LastIndexByte(text, '<') > strings.LastIndexByte(text, '>')
	}
	stars, link := strings.Count(text, "*"), strings.LastIndexByte(text, '[')
	for l := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(l), "* ") {
			stars-- // of a list
		}
	}
	lastLine := text[strings.LastIndexByte(text, '\n')+1:]
	return listNumber.MatchString(lastLine) || stars%2 != 0 || strings.Count(text, "**")%2 != 0 ||
		strings.Count(text, "`")%2 != 0 || strings.Count(text, "~~")%2 != 0 ||
		link > strings.LastIndexByte(text, ']') ||
		link >= 0 && strings.Contains(text[link:], "](") && !strings.Contains(text[link:], ")")
}

// chunk adds a piece of streamed sound and returns it once it is whole. Where it
// cannot be played, the words that it says are spoken.
func (p *planner) chunk(s dialog.Step) []machine.Item {
	switch s.State {
	case stateStart:
		p.sound.Reset()
	case stateContent:
		head, data, ok := strings.Cut(s.Src, ";base64,")
		raw, err := base64.StdEncoding.DecodeString(data)
		if ok && err == nil && int64(p.sound.Len()+len(raw)) <= soundLimits.MaxInput {
			p.encoding = strings.TrimPrefix(head, "data:")
			p.sound.Write(raw)
		}
	case stateEnd:
		if p.sound.Len() == 0 {
			return p.flush(true)
		}
		src := soundOf(p.encoding, p.sound.String())
		p.sound.Reset()
		if len(p.silent) == 0 {
			return []machine.Item{{Kind: machine.Sound, Src: src}}
		}
		it := p.silent[0]
		it.Src, it.Text = src, textOf(p.silent)
		p.silent = nil
		return []machine.Item{it}
	}
	return nil
}

// soundOf is a data URI of streamed sound. What has no head of its own gets that
// of a WAV file: telephone samples at 8 kHz, linear ones of 16 bits at 24 kHz as
// the service's voices make them.
func soundOf(encoding, samples string) string {
	format, rate, width := uint16(0), uint32(0), uint16(0)
	switch encoding {
	case "audio/x-mulaw", "audio/basic", "audio/pcmu":
		format, rate, width = 7, 8000, 1
	case "audio/pcm", "audio/l16":
		format, rate, width = 1, 24000, 2
	}
	if format != 0 {
		head := make([]byte, 0, 44)
		head = append(head, "RIFF"...)
		head = binary.LittleEndian.AppendUint32(head, uint32(36+len(samples)))
		head = append(head, "WAVEfmt \x10\x00\x00\x00"...)
		head = binary.LittleEndian.AppendUint16(head, format)
		head = binary.LittleEndian.AppendUint16(head, 1)
		head = binary.LittleEndian.AppendUint32(head, rate)
		head = binary.LittleEndian.AppendUint32(head, rate*uint32(width))
		head = binary.LittleEndian.AppendUint16(head, width)
		head = binary.LittleEndian.AppendUint16(head, 8*width)
		head = append(head, "data"...)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(samples)))
		encoding, samples = "audio/wav", string(head)+samples
	}
	return "data:" + encoding + ";base64," + base64.StdEncoding.EncodeToString([]byte(samples))
}

// items returns what a step that stands for itself asks for.
func (p *planner) items(s dialog.Step) []machine.Item {
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
func (p *planner) handoff(s dialog.Step) []machine.Item {
	items := p.speech(s)
	if s.State == "" || s.State == handoffBegins {
		items = append(items, machine.Item{Kind: machine.Action, Name: machine.TraceHandoff, Default: -1})
	}
	return items
}

// speech splits words into sentences; SSML stays whole where the voice takes it.
func (p *planner) speech(s dialog.Step) []machine.Item {
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
